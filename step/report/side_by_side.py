"""Several runs on one page: scores, settings that differ, images that gained and lost most."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misc.config import NO_EFFECT
from misc.errors import UserError
from misc.metrics import interval, miou_of_counts, resampled_mious
from misc.workspace import digest, read_json, write_json
from step.common.scores import spread
from step.graph import full_config_class
from step.report.gallery import RECORD_NAME, Cells, counts_of
from step.report.page import FACTS_NAME, MADE_BY, copy_file, may_hold, write_page

Facts = dict[str, Any]
NAME = re.compile(r"[^=/\\]{1,40}")
SHOWN = 24  # images that gained most, and as many that lost most
WORTH_SHOWING = 0.001  # a tenth of a percent
SHARE = 0.95


@dataclass(frozen=True)
class ReportOf:
    """A run that has a report.

    Attributes:
        name: what it is called here.
        folder: of its report.
        facts: the content of report.json.
    """

    name: str
    folder: Path
    facts: Facts

    @property
    def main(self) -> str:
        """The layer of masks that its images are judged by; "" without exact masks."""
        return self.facts["gallery"]["main"]

    @property
    def iou(self) -> dict[str, float]:
        """Image id -> IoU of its masks."""
        images = self.facts["gallery"]["images"]
        return {each["id"]: each["iou"][self.main] for each in images if self.main in each["iou"]}

    @property
    def settings(self) -> dict[str, Any]:
        """What its results may depend on: not paths of results, not the machine."""
        own = self.facts["head"]["settings"]
        return {name: own[name] for name in _deciding_settings() if name in own}


def compare_runs(texts: Sequence[str], to: Path, resamples: int, seed: int) -> Path:
    """Write a page with these runs side by side, and return its path.

    Args:
        texts: folders of runs, or name=folder; the others are compared with the first.
        to: where the page goes.
        resamples: of images, for intervals.
        seed: of the resamples.

    Raises:
        UserError: if a run has no report, two have one name, or `to` holds something else.
    """
    runs = _runs_of(texts)
    if not may_hold(to, "pairs"):
        raise UserError(
            f"{to} is no comparison of ours, and nothing in it is overwritten. Choose another --to."
        )
    facts: Facts = {
        "made_by": MADE_BY,
        "runs": [
            {"name": run.name, "folder": str(run.folder.parent), **_head(run)} for run in runs
        ],
        "scores": _score_columns(runs),
        "seeds": _over_seeds(runs),
        "classes": _classes(runs),
        "settings": _differing_settings(runs),
        "images": _over_images(runs, resamples, seed),
        "pairs": [_pair(runs[0], other) for other in runs[1:]],
    }
    write_json(to / FACTS_NAME, facts)
    shown = [_largest(pair) for pair in facts["pairs"]]
    _copy_pictures(runs, shown, to / "pictures")
    write_page(to, "compare.html", facts=facts, shown=shown)
    return to / "compare.html"


def _runs_of(texts: Sequence[str]) -> list[ReportOf]:
    if len(texts) < 2:
        raise UserError("Name at least two runs to compare.")
    runs: dict[str, ReportOf] = {}
    for text in texts:
        name, equals, place = text.partition("=")
        if not equals or not NAME.fullmatch(name):
            name, place = "", text
        folder = Path(place) / "report"
        path = folder / FACTS_NAME
        if not path.is_file():
            raise UserError(
                f"{place} has no report ({path}). Make it: run_sample.py --steps report "
                f"--out_dir {place}, with the other flags of that run."
            )
        facts = read_json(path, "Delete the folder report and make it again: --steps report.")
        if not isinstance(facts, dict) or facts.get("made_by") != MADE_BY or "head" not in facts:
            raise UserError(f"{path} is not the report of a run. Name the --out_dir of a run.")
        name = name or Path(place).resolve().name
        if name in runs:
            raise UserError(f"Two runs are called {name}. Name them: A={place}.")
        runs[name] = ReportOf(name, folder, facts)
    return list(runs.values())


def _deciding_settings() -> list[str]:
    """Names of the settings that results depend on, without the places of results."""
    return [
        field.name
        for field in dataclasses.fields(full_config_class())
        if field.metadata["decides"] != NO_EFFECT
        and not field.metadata.get("below_out_dir")
        and field.name != "out_dir"
    ]


def _head(run: ReportOf) -> Facts:
    head = run.facts["head"]
    return {name: head[name] for name in ("method", "seeds", "commit", "dataset", "seconds")}


def _score_columns(runs: Sequence[ReportOf]) -> list[Facts]:
    """Each kind of masks that any run scored, before and after the CRF: the runs' mIoU."""
    columns: dict[tuple[str, str, str], Facts] = {}
    for place, run in enumerate(runs):
        for row in run.facts["scores"]:
            for score, after in (("miou", ""), ("miou_crf", ", after CRF")):
                if row.get(score) is not None:
                    # What masks are called may differ from run to run; their step does not.
                    name = _step_words(row)
                    column = columns.setdefault(
                        (row["key"], name, score),
                        {"name": f"{name}{after}", "key": row["key"], "score": score,
                         "values": [None] * len(runs)},
                    )  # fmt: skip
                    column["values"][place] = row[score]
    return list(columns.values())


def _step_words(row: Facts) -> str:
    words = {"eval_cam": "CAM", "eval_walk": "walked scores", "eval_sem_seg": "masks",
             "eval_refined": "refined masks"}  # fmt: skip
    if row["key"] in words:
        return words[row["key"]]
    return f"{row['name']} {row['note']}".strip() if row["note"] else row["name"]


def _over_seeds(runs: Sequence[ReportOf]) -> list[Facts]:
    """Runs that only differ in their seeds: mean, deviation and interval of each score."""
    groups: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        without_seed = {name: value for name, value in run.settings.items() if name != "seed"}
        groups.setdefault(digest(without_seed), []).append(place)
    columns = _score_columns(runs)
    found = []
    for places in groups.values():
        if len(places) > 1:
            scores = []
            for column in columns:
                values = [v for k in places if (v := column["values"][k]) is not None]
                scores.append({"name": column["name"], **spread(values), **_t_interval(values)})
            found.append({"runs": [runs[k].name for k in places], "scores": scores})
    return found


def _t_interval(values: Sequence[float]) -> dict[str, float | None]:
    """Student's interval of the mean of several seeds; None of fewer than two."""
    from scipy.stats import t

    if len(values) < 2:
        return {"low": None, "high": None}
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(t.ppf((1 + SHARE) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return {"low": mean - half, "high": mean + half}


def _classes(runs: Sequence[ReportOf]) -> Facts:
    """IoU of each class that occurs, of the masks that the runs' images are judged by."""
    columns = []
    for run in runs:
        step, ending = _score_of(run.main)
        rows = [row for row in run.facts["scores"] if row["key"] == step]
        columns.append(rows[0].get(f"iou{ending}", {}) if rows else {})
    names = list(dict.fromkeys(name for column in columns for name in column))
    occurs = [name for name in names if any(c.get(name) is not None for c in columns)]
    return {name: [column.get(name) for column in columns] for name in occurs}


def _score_of(main: str) -> tuple[str, str]:
    """The step that scores a layer of masks, and what its scores' names end in."""
    ending = "_crf" if main.endswith("_crf") else ""
    steps = {"mask": "eval_sem_seg", "refined": "eval_refined", "seg": "eval_seg"}
    return steps.get(main.removesuffix("_crf"), ""), ending


def _differing_settings(runs: Sequence[ReportOf]) -> dict[str, list[Any]]:
    """Settings in which the runs differ; None where a run does not have one."""
    settings = [run.settings for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    rows = {name: [each.get(name) for each in settings] for name in names}
    return {
        name: values for name, values in rows.items() if any(v != values[0] for v in values[1:])
    }


def _over_images(runs: Sequence[ReportOf], resamples: int, seed: int) -> Facts | None:
    """Scores on the images that all runs scored, and differences from the first, with intervals.

    Pixels that masks leave open count as wrong. None where there is nothing to compare.
    """
    scored = [set(run.iou) for run in runs]
    ids = [i for i in runs[0].iou if all(i in each for each in scored)]
    names = runs[0].facts["class_names"]
    if not ids or any(run.facts["class_names"] != names for run in runs):
        return None
    counts = np.stack([_counts(run, ids, len(names)) for run in runs])
    mious, drawn = miou_of_counts(counts.sum(axis=1)), resampled_mious(counts, resamples, seed)
    rows = []
    for place, run in enumerate(runs):
        low, high = interval(drawn[place])
        row: Facts = {"name": run.name, "miou": float(mious[place]), "low": low, "high": high}
        if place:
            of_difference = interval(drawn[place] - drawn[0])
            row["difference"] = float(mious[place] - mious[0])
            row["difference_low"], row["difference_high"] = of_difference
        rows.append(row)
    return {"count": len(ids), "resamples": resamples, "seed": seed, "rows": rows}


def _counts(run: ReportOf, ids: Sequence[str], num_classes: int) -> NDArray[np.int64]:
    """(N,3,C) of the masks that a run's images are judged by."""
    path = run.folder / "gallery" / RECORD_NAME
    record = read_json(path)
    try:
        cells: Mapping[str, Cells] = {i: record["images"][i]["cells"][run.main] for i in ids}
    except (KeyError, TypeError):
        raise UserError(
            f"{path} does not fit the {FACTS_NAME} of its report. Make the report again: "
            "--steps report."
        ) from None
    return np.stack([counts_of(cells[image_id], num_classes) for image_id in ids])


def _pair(first: ReportOf, other: ReportOf) -> Facts:
    """What each image that both scored gained, the largest gain first."""
    before, after = first.iou, other.iou
    gains = {i: round(after[i] - before[i], 4) for i in before if i in after}
    rows = [
        {"id": i, "first": before[i], "other": after[i], "gain": gain}
        for i, gain in sorted(gains.items(), key=lambda item: (-item[1], item[0]))
    ]
    return {"first": first.name, "other": other.name, "images": rows}


def _largest(pair: Facts) -> Facts:
    """The images with the largest gains and losses, each the largest first."""
    rows = pair["images"]
    return {
        **pair,
        "gains": [row for row in rows[:SHOWN] if row["gain"] >= WORTH_SHOWING],
        "losses": [row for row in rows[::-1][:SHOWN] if row["gain"] <= -WORTH_SHOWING],
    }


def _copy_pictures(runs: Sequence[ReportOf], shown: Sequence[Facts], folder: Path) -> None:
    """Copy the small pictures that the page shows, so that its folder is complete."""
    for place, pair in enumerate(shown, start=1):
        for row in (*pair["gains"], *pair["losses"]):
            image_id = row["id"]
            own = (0, runs[0]), (place, runs[place])
            wanted = [("photo", runs[0], "photo", ".jpg"), ("exact", runs[0], "exact", ".png")]
            wanted += [(f"run{number}", run, run.main, ".png") for number, run in own]
            for name, run, layer, suffix in wanted:
                source = run.folder / "gallery" / layer / f"{image_id}{suffix}"
                if source.is_file():
                    copy_file(source, folder / name / source.name)
