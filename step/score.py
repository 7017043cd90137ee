"""Score any folder of masks, this project's or somebody else's, beside a card of their origin.

python -m step.score MASKS --data_root DIR --split val
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from misc.command_line import exit_status, run_as_program
from misc.workspace import write_json
from step.common.cards import CARD_NAME, FIELDS, parse_fields, read_card, template
from step.common.mask_scores import (
    HEADER,
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

WIDTH = 100
SCORE_NAME = "score.json"


def score(args: argparse.Namespace) -> str:
    """Score a folder, write score.json where that is asked for, and return the tables.

    Raises:
        UserError: if the folder, the dataset or the card is not as it must be.
    """
    demand_own_results(args.to, [SCORE_NAME], {"masks", "miou", "card"})
    card = read_card(args.masks, parse_fields(args.card))
    split = ScoredSplit.of(args)
    folder = MaskFolder.find(args.masks, args.suffix, split.ids)
    (found,) = score_folders(split, [folder], args.num_workers)
    scores = found.to_json(split.dataset.class_names, split.eval_classes)
    if args.to is not None:
        about = {"masks": str(folder.path), "suffix": folder.suffix, **split.to_json()}
        write_json(args.to / SCORE_NAME, {**about, **scores, "card": card})
    lines = [
        f"{folder.path}/<id>{folder.suffix}.png\n{split.describe()}",
        table_of_known(HEADER, [headline(scores)], WIDTH),
        note_on_ignored([scores]),
        _class_table(scores),
        table(["card", ""], [list(item) for item in card.items()], WIDTH),
    ]
    return "\n\n".join(filter(None, lines))


def _class_table(scores: Mapping[str, Any]) -> str:
    rows = [
        [name, percent(iou), percent(scores["fp"][name]), percent(scores["fn"][name]),
         percent(scores["boundary_f_by_class"][name])]
        for name, iou in scores["iou"].items()
        if iou is not None
    ]  # fmt: skip
    return table(["class", "IoU", "fp", "fn", "boundary F"], rows, WIDTH)


class _PrintTemplate(argparse.Action):
    """`--card_template` prints a card to fill in, and nothing else happens."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(template() + "\n")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    fields = "\n".join(f"  {name:<18} {meaning}" for name, meaning in FIELDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m step.score",
        description="Score any folder of masks against exact masks, beside a card that says how "
        "the masks came about.",
        epilog=f"The fields of a card:\n{fields}\nThose of this project's own masks are read from "
        'the records of what made them. What nobody states is "not stated".',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "masks", metavar="MASKS", type=Path, help="folder of <id>.png or <id>_crf.png"
    )
    add_flags(parser)
    parser.add_argument(
        "--card", action="extend", nargs="+", default=[], metavar="FIELD=VALUE",
        help=f"fields of the card, before those of {CARD_NAME} in the folder",
    )  # fmt: skip
    parser.add_argument(
        "--card_template", nargs=0, action=_PrintTemplate,
        help=f"print a card to fill in as {CARD_NAME}, and exit",
    )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    args = build_parser().parse_args(arguments)
    return exit_status(lambda: sys.stdout.write(score(args) + "\n"), "--to")


if __name__ == "__main__":
    run_as_program(main)
