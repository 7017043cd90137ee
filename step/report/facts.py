"""Every number on the page, as JSON can hold it: read from what the run left on disk."""

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from misc.errors import UserError
from misc.workspace import read_json
from step.artefacts import PSEUDO_MASKS
from step.common.cards import read_card
from step.common.plan import BROKEN, status_of
from step.common.runfile import read_run
from step.common.scorefile import ScoreFile
from step.common.scores import percent
from step.graph import ShowingStep, all_steps
from step.report.curves import threshold_curves, training_curves, validation_curves
from step.report.gallery import Gallery
from step.report.scores import score_rows

if TYPE_CHECKING:
    from step.run import Run

Facts = dict[str, Any]
T = TypeVar("T")
OF_RUN_FILE = ("started", "seconds", "command", "commit", "machine", "versions")
BENCHMARK_PICTURES = {
    "heat_map": "mIoU of every pair of CAMs and saliency maps at its best thresholds",
    "thresholds": "mIoU over the activation threshold for each set of CAMs",
    "classes": "IoU of every class for each set of CAMs with its best saliency maps",
}
METHODS = {
    ("walk", "threshold"): "SBE",
    ("walk", "saliency"): "salient walk",
    ("cam", "saliency"): "salient CAM",
    ("cam", "threshold"): "CAM masks",
}


def facts_of(run: "Run", gallery: Gallery, problems: Sequence[str] = ()) -> Facts:
    """Everything that the page shows, in its order; what a run lacks is None or empty.

    What cannot be read is left out, and `problems` tells of it, after those given.
    """
    found = list(problems)

    def if_sound(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except UserError as error:
            found.append(error.message)
            return None

    results, notes = ScoreFile.of(run.config).content, read_run(run.config.out_dir)
    names = run.dataset.class_names
    return {
        "head": _head(run, notes),
        "steps": _steps(run, notes),
        "scores": score_rows(results, method_of(run)),
        "card": if_sound(lambda: _card(PSEUDO_MASKS.path(run))),
        "training": training_curves(run, if_sound),
        "validation": validation_curves(run, if_sound),
        "thresholds": threshold_curves(results),
        "gallery": gallery.to_json(),
        "confusion": _confusion(gallery, ("background", *names)),
        "boundary": if_sound(lambda: _boundary_quality(run.config.out_dir)) or [],
        "benchmark": if_sound(lambda: _benchmark(run.config.out_dir)),
        "class_names": ["background", *names],
        "warnings": list(dict.fromkeys(_warnings(results))),
        "problems": found,
    }


def _warnings(results: Mapping[str, Any]) -> Iterator[str]:
    """What the plan found odd when something was made, and classifiers that learnt nothing."""
    for key, result in results.items():
        yield from result.get("warnings", ())
        if result.get("is_at_chance"):
            yield (
                f"{key}: the classifier is at chance level. It is right on "
                f"{percent(result['accuracy'])} % of its own training images; always naming the "
                f"same class, on {percent(result['chance_accuracy'])} %."
            )


def _card(folder: Path) -> dict[str, str] | None:
    return read_card(folder, {}) if folder.is_dir() else None


def _head(run: "Run", notes: Mapping[str, Any]) -> Facts:
    """What was run, on what, when and how."""
    config = run.config
    return {
        "name": config.out_dir.resolve().name,
        "method": method_of(run),
        "dataset": str(config.voc12_root),
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        **{name: notes.get(name) for name in OF_RUN_FILE},
        "seeds": sorted({config.seed, *run.setting("seg_seeds"), *run.setting("benchmark_seeds")}),
        "settings": config.to_dict(),
    }


def method_of(run: "Run") -> str:
    """What the masks of this run are called."""
    name = METHODS[run.setting("sem_seg_scores"), run.setting("sem_seg_rule")]
    return "BES" if name == "SBE" and run.config.saliency == "none" else name


def _steps(run: "Run", notes: Mapping[str, Any]) -> list[Facts]:
    """The state of each step now, what the last run did of it, and how long it took."""
    last = notes.get("steps", {})
    rows = {}
    for step in all_steps():
        if isinstance(step, ShowingStep):
            last.pop(step.name, None)
            continue
        for node in step.nodes(run):
            try:
                status = status_of(node)
                rows[node.key] = (node.title, status.state, status.reasons)
            except UserError as error:
                rows[node.key] = (node.title, BROKEN, error.message)
    variants = {key: (key, None, "") for key in last if key not in rows}  # such as the demo's
    return [
        {
            "name": title,
            "state": state,
            "why": why,
            "last_run": last.get(key, {}).get("state"),
            "seconds": last.get(key, {}).get("seconds"),
            "images_per_second": last.get(key, {}).get("images_per_second"),
        }
        for key, (title, state, why) in (rows | variants).items()
    ]


def _confusion(gallery: Gallery, names: tuple[str, ...]) -> Facts | None:
    """All scored pixels of the masks that the gallery is judged by; the classes that occur."""
    if not gallery.main:
        return None
    total = gallery.confusion(gallery.main)
    occurs = total.matrix.sum(axis=0) + total.matrix.sum(axis=1) + total.unscored > 0
    places = [k for k, there in enumerate(occurs.tolist()) if there]
    return {
        "of": gallery.title_of(gallery.main),
        "classes": [names[k] for k in places],
        "pixels": total.matrix[places][:, places].tolist(),
        "open": total.unscored[places].tolist(),
        "miou": total.scores().miou,
    }


def _boundary_quality(out_dir: Path) -> list[Facts]:
    """What step.score measured of outlines, where its results lie in this folder."""
    rows = []
    for path in sorted([*out_dir.glob("score.json"), *out_dir.glob("*/score.json")]):
        content = read_json(path)
        if isinstance(content, dict) and "boundary_f" in content:
            names = ("masks", "suffix", "split", "images", "miou", "boundary_f")
            rows.append(
                {name: content.get(name) for name in names}
                | {"by_class": content.get("boundary_f_by_class", {})}
            )
    return rows


def _benchmark(out_dir: Path) -> Facts | None:
    """The benchmark's best cells and trained methods, and which pictures it left."""
    folder = out_dir / "benchmark"
    path = folder / "benchmark.json"
    if not path.exists():
        return None
    content = read_json(path)
    there = {k: v for k, v in BENCHMARK_PICTURES.items() if (folder / f"{k}.svg").is_file()}
    try:
        return {
            "images": content["images"],
            "best": [
                {name: row[name] for name in ("cam", "saliency", "act_thres", "sal_thres", "miou")}
                for row in content["best"]
                if not row["ignore"]
            ],
            "trained": [
                {name: row.get(name) for name in ("method", "cam", "saliency", "miou", "miou_std",
                                                  "miou_crf", "miou_crf_std")}
                for row in content["sbe_over_seeds"]
            ],
            "pictures": there,
        }  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no record of a benchmark ({error!r}). Run --steps benchmark to have it "
            "written again."
        ) from None
