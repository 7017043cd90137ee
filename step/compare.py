"""Compare folders of masks: scores side by side, paired differences, and what the cards say.

python -m step.compare A B C --data_root DIR --split val --to DIR
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import re
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from misc.command_line import exit_status, run_as_program
from misc.errors import UserError
from misc.metrics import interval, miou_of_counts, resampled_mious
from misc.seeds import add_resampling_flags
from misc.workspace import write_json
from step.benchmark.plots import Interval, write_class_bars, write_intervals
from step.common.cards import NOT_STATED, Card, read_card
from step.common.mask_scores import (
    HEADER,
    FolderScores,
    MaskFolder,
    ScoredSplit,
    add_flags,
    demand_own_results,
    headline,
    note_on_ignored,
    score_folders,
)
from step.common.scores import percent
from step.common.table import table, table_of_known
from voc12.files import CRF_SUFFIX

WIDTH = 100
COMPARE_NAME = "compare.json"
PICTURES = SCORES_PICTURE, CLASSES_PICTURE = "scores", "classes"
NAME = re.compile(r"[\w .+-]{1,40}")
LETTERS = string.ascii_uppercase
CLASSES_TABLE = 10  # folders whose columns fit beside the names of classes


def compare(args: argparse.Namespace) -> str:
    """Score and compare folders, write the results where that is asked for; return the tables.

    Raises:
        UserError: if a folder, the dataset or a card is not as it must be.
    """
    names = [f"{stem}{suffix}" for stem in PICTURES for suffix in (".png", ".svg")]
    demand_own_results(args.to, [COMPARE_NAME, *names], {"folders", "resamples"})
    split = ScoredSplit.of(args)
    folders = folders_of(args.masks, args.suffix, split.ids)
    cards = [read_card(folder.path, {}) for folder in folders]
    found = score_folders(split, folders, args.num_workers)
    scores = [each.to_json(split.dataset.class_names, split.eval_classes) for each in found]
    mious, differences = paired(found, args.resamples, args.seed)
    if args.to is not None:
        content = {
            **split.to_json(),
            "resamples": args.resamples,
            "seed": args.seed,
            "folders": {
                folder.name: {
                    "masks": str(folder.path), "suffix": folder.suffix, **of_folder,
                    "strict_interval": mious[k]._asdict(), "card": cards[k],
                    "strict_minus_first": differences[k - 1]._asdict() if k else None,
                }
                for k, (folder, of_folder) in enumerate(zip(folders, scores, strict=True))
            },
        }  # fmt: skip
        write_json(args.to / COMPARE_NAME, content)
        _write_pictures(args.to, folders, scores, mious, differences)
    header = ["", "masks", *HEADER, "strict, 95 % interval"]
    rows = [
        [letter, folder.name, *headline(of_folder), f"{percent(miou.low)} to {percent(miou.high)}"]
        for letter, folder, of_folder, miou in zip(LETTERS, folders, scores, mious, strict=False)
    ]
    lines = [
        split.describe(),
        table_of_known(header, rows, WIDTH),
        note_on_ignored(scores),
        _difference_table(differences, args),
        *_class_tables(scores),
        _card_table(cards),
    ]
    return "\n\n".join(filter(None, lines))


def folders_of(texts: Sequence[str], suffix: str | None, ids: Sequence[str]) -> list[MaskFolder]:
    """The folders that the arguments name: `folder`, `name=folder`, both with `:` and a suffix.

    Raises:
        UserError: if one is missing or lacks masks, or two have the same name.
    """
    if not 2 <= len(texts) <= len(LETTERS):
        raise UserError(f"Name 2 to {len(LETTERS)} folders of masks to compare.")
    folders: dict[str, MaskFolder] = {}
    for text in texts:
        name, equals, place = text.partition("=")
        if not equals or not NAME.fullmatch(name):
            name, place = "", text
        path, colon, ending = place.rpartition(":")
        if colon and ending in ("", CRF_SUFFIX):
            folder = MaskFolder.find(Path(path), ending, ids, name)
        else:
            folder = MaskFolder.find(Path(place), suffix, ids, name)
        if folder.name in folders:
            raise UserError(f"Two folders are called {folder.name}. Name them: A={path or place}.")
        folders[folder.name] = folder
    return list(folders.values())


def paired(
    found: Sequence[FolderScores], resamples: int, seed: int
) -> tuple[list[Interval], list[Interval]]:
    """The mIoU of each folder, and the difference of each but the first from the first.

    Pixels that are predicted as 255 count as wrong, since folders differ in how many they have.
    Intervals are of resampled images, 95 %.
    """
    counts = np.stack([each.counts for each in found])
    mious = miou_of_counts(counts.sum(axis=1))
    resampled = resampled_mious(counts, resamples, seed)
    of_folders = [
        Interval(float(miou), *interval(values))
        for miou, values in zip(mious, resampled, strict=True)
    ]
    differences = [
        Interval(float(miou - mious[0]), *interval(values - resampled[0]))
        for miou, values in zip(mious[1:], resampled[1:], strict=True)
    ]
    return of_folders, differences


def _difference_table(differences: Sequence[Interval], args: argparse.Namespace) -> str:
    rows = [
        [f"{letter} - A", _signed(each.value), f"{_signed(each.low)} to {_signed(each.high)}"]
        for letter, each in zip(LETTERS[1:], differences, strict=False)
    ]
    note = (
        f"A paired bootstrap over images ({args.resamples} resamples, seed {args.seed}), with 255 "
        "as wrong: it tells\nhow much the choice of images matters, not that of training seeds."
    )
    return table(["difference", "strict mIoU", "95 % interval"], rows) + "\n" + note


def _signed(score: float) -> str:
    return f"{round(100 * score, 1) + 0.0:+.1f}"  # no -0.0


def _class_tables(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """IoU of each class that occurs, a column for each folder."""
    names = [
        name for name in scores[0]["iou"] if any(each["iou"][name] is not None for each in scores)
    ]
    tables = []
    for start in range(0, len(scores), CLASSES_TABLE):
        part = scores[start : start + CLASSES_TABLE]
        rows = [[name, *(percent(each["iou"][name]) for each in part)] for name in names]
        letters = LETTERS[start : start + len(part)]
        tables.append(table(["IoU of class", *letters], rows, WIDTH))
    return tables


def _card_table(cards: Sequence[Card]) -> str:
    """The fields in which the cards differ."""
    differing = [name for name in cards[0] if len({card[name] for card in cards}) > 1]
    if not differing:
        if set(cards[0].values()) == {NOT_STATED}:
            return "No folder has a card that states anything: see --card_template of step.score."
        return "The cards of all folders say the same."
    rows = []
    for name in differing:
        holders: dict[str, list[str]] = {}
        for letter, card in zip(LETTERS, cards, strict=False):
            holders.setdefault(card[name], []).append(letter)
        for place, (value, letters) in enumerate(holders.items()):
            rows.append(["" if place else name, ", ".join(letters), value])
    return table(["cards differ in", "", ""], rows, WIDTH)


def _write_pictures(
    to: Path,
    folders: Sequence[MaskFolder],
    scores: Sequence[Mapping[str, Any]],
    mious: Sequence[Interval],
    differences: Sequence[Interval],
) -> None:
    names = [folder.name for folder in folders]
    panels = {
        "strict mIoU": dict(zip(names, mious, strict=True)),
        f"strict mIoU minus that of {names[0]}": dict(zip(names[1:], differences, strict=True)),
    }
    write_intervals(to / SCORES_PICTURE, panels)
    iou = {
        name: {k: np.nan if value is None else value for k, value in each["iou"].items()}
        for name, each in zip(names, scores, strict=True)
    }
    write_class_bars(to / CLASSES_PICTURE, iou, "IoU of classes")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m step.compare",
        description="Compare folders of masks side by side: scores, paired differences from the "
        "first with intervals over images, and what their cards (card.json, or this project's "
        "records) say differently.",
    )
    parser.add_argument(
        "masks", metavar="FOLDER", nargs="+",
        help="folder of <id>.png or <id>_crf.png, or name=folder; folder: and folder:_crf choose "
        "between masks before and after the CRF",
    )  # fmt: skip
    add_flags(parser)
    add_resampling_flags(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    args = build_parser().parse_args(arguments)
    return exit_status(lambda: sys.stdout.write(compare(args) + "\n"), "--to")


if __name__ == "__main__":
    run_as_program(main)
