"""The page: what the facts become, and the files that it is made of."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from misc.errors import UserError
from misc.images import voc_palette
from misc.visualize import BOUNDARY_LABEL_COLOURS
from misc.workspace import atomic_write, read_json, write_json
from step.common.cards import NOT_STATED
from step.common.plan import BROKEN, DUE, MISSING, OFF
from step.common.runfile import DONE, KEPT
from step.common.scores import percent
from step.report.charts import Line, Mark, line_chart
from step.report.facts import BENCHMARK_PICTURES, Facts, facts_of
from step.report.gallery import RECORD_NAME, make_gallery, shown_ids

if TYPE_CHECKING:
    from jinja2 import Environment

    from step.run import Run

TEMPLATES = Path(__file__).parent / "page"
ASSETS = ("report.css", "report.js")
FACTS_NAME, MADE_BY = "report.json", "step.report"
CHUNK = 1000  # images whose numbers are in one file; the page reads the first, the rest on demand
CONFUSIONS = 12  # the largest, in words
SMALLEST_SHARE = 0.005  # of a class: what rounds to a percent
MATRIX_CLASSES = 30  # as many as a screen holds


def folder_problems(folder: Path) -> list[str]:
    """What is wrong with a folder to write a report to: somebody else's files are not touched."""
    if (folder / "gallery" / RECORD_NAME).exists() or may_hold(folder, "head"):
        return []
    return [
        f"{folder} is not a report of ours, and nothing in it is overwritten. Move it away, choose "
        "another --out_dir, or pass --report no."
    ]


def may_hold(folder: Path, part: str) -> bool:
    """Whether a folder is new or empty, or has a page of ours whose facts have this part."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return True
    try:
        facts = read_json(folder / FACTS_NAME)
    except (OSError, UserError):
        return False
    return isinstance(facts, dict) and facts.get("made_by") == MADE_BY and part in facts


def write_report(run: "Run", ids: Sequence[str], folder: Path) -> dict[str, Any]:
    """Write the report of a run; small pictures that are current stay.

    Returns:
        `page`, its path; `images` in the gallery; `made`, the small pictures made this time.
    """
    gallery = make_gallery(run, ids, folder / "gallery")
    why_none = shown_ids(run)[1]
    problems = [f"There is no gallery: {why_none}"] if why_none else gallery.problems
    facts = {"made_by": MADE_BY, **facts_of(run, gallery, problems)}
    write_json(folder / FACTS_NAME, facts)
    _write_entries(facts, folder / "gallery")
    for name in BENCHMARK_PICTURES if facts["benchmark"] else ():
        source = run.config.out_dir / "benchmark" / f"{name}.svg"
        if source.is_file():
            copy_file(source, folder / "benchmark" / source.name)
    write_page(folder, "index.html", facts=facts, view=_view(facts))
    page = folder / "index.html"
    return {"page": str(page), "images": len(ids), "made": gallery.count}


def write_page(folder: Path, name: str, **content: Any) -> None:
    """Fill in a template, and put style and script beside it."""
    text = _environment().get_template(f"{name}.j2").render(**content)
    with atomic_write(folder / name) as file:
        file.write(text.encode())
    for asset in ASSETS:
        copy_file(TEMPLATES / asset, folder / asset)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content, whole or not at all."""
    with open(source, "rb") as opened, atomic_write(target) as file:
        shutil.copyfileobj(opened, file)


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "percent": percent, "duration": duration, "typed": _typed,
        "quoted": lambda text: quote(text, safe=""),
    }  # fmt: skip
    return environment


def duration(seconds: float | None) -> str:
    """Seconds as people say them; a dash where there are none."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _typed(value: Any) -> str:
    """A setting or a note as one text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_typed(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_typed(each)}" for name, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _write_entries(facts: Facts, folder: Path) -> None:
    """The gallery's numbers as scripts: a page from disk may load these, but no JSON."""
    gallery = facts["gallery"]
    images, scored = gallery["images"], gallery["scored"]
    keys = [layer["key"] for layer in gallery["layers"]]
    for number in range(number_of_chunks(len(images))):
        part = images[number * CHUNK : (number + 1) * CHUNK]
        rows = [
            [
                each["id"], *each["size"],
                sum(1 << keys.index(key) for key in each["layers"]),
                [each["iou"].get(key) for key in scored],
                each["classes"], each["missed"], each["too_large"], each["confused"],
            ]
            for each in part
        ]  # fmt: skip
        with atomic_write(folder / f"entries-{number}.js") as file:
            # ASCII: no character in it ends a line or a script.
            file.write(f"sbeEntries({number}, {json.dumps(rows, separators=(',', ':'))});".encode())


def number_of_chunks(count: int) -> int:
    """How many files the numbers of so many images take."""
    return -(-count // CHUNK)


def _view(facts: Facts) -> Facts:
    """What only the look of the page needs."""
    gallery = facts["gallery"]
    colours = [_hex(*rgb) for rgb in voc_palette().tolist()]
    shown = sorted({k for each in gallery["images"] for k in each["classes"]})
    return {
        "key_figures": _key_figures(facts),
        "steps": [step for step in facts["steps"] if not _is_idle(step)],
        "idle_steps": [step["name"] for step in facts["steps"] if _is_idle(step)],
        "card": {k: v for k, v in (facts["card"] or {}).items() if v != NOT_STATED},
        "not_stated": [k for k, v in (facts["card"] or {}).items() if v == NOT_STATED],
        "has_crf": any("miou_crf" in row for row in facts["scores"]),
        "has_chosen": any("miou_chosen" in row for row in facts["scores"]),
        "class_rows": _class_rows(facts),
        "loss_charts": [
            _training_charts(curve) for curve in facts["training"]
            if _has_points(curve, "update", "loss", "learning_rate")
        ],
        "val_charts": [
            (curve["name"], line_chart([Line("mIoU", curve["update"], _hundred(curve["miou"]))],
                                       "update"))
            for curve in facts["validation"] if _has_points(curve, "update", "miou")
        ],
        "threshold_chart": _threshold_chart(facts["thresholds"]),
        "confusion": _confusion_view(facts["confusion"]),
        "page_data": {
            "layers": gallery["layers"],
            "scored": gallery["scored"],
            "main": gallery["main"],
            "count": len(gallery["images"]),
            "chunk": CHUNK,
            "chunks": number_of_chunks(len(gallery["images"])),
            "classes": facts["class_names"],
            "colours": colours[: len(facts["class_names"])],
            "labels": [
                [code.name.lower().replace("_", " "), _hex(*colour)]
                for code, colour in BOUNDARY_LABEL_COLOURS.items()
                if code.name != "IGNORE"
            ],
        },
        "gallery_classes": [(k, facts["class_names"][k]) for k in shown],
    }  # fmt: skip


def _is_idle(step: Facts) -> bool:
    """Whether nothing was made by a step, and nothing is there of it."""
    is_made = step["seconds"] is not None or step["last_run"] in (DONE, KEPT)
    return not is_made and step["state"] in (MISSING, OFF, DUE, BROKEN)


def _hex(red: int, green: int, blue: int) -> str:
    return f"#{red:02x}{green:02x}{blue:02x}"


def _hundred(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else 100 * value for value in values]


def _key_figures(facts: Facts) -> list[tuple[str, str, str]]:
    """Number, unit and what it is: the few that people look for first."""
    figures = []
    rows = {row["key"]: row for row in reversed(facts["scores"])}
    for key in ("eval_sem_seg", "eval_refined", "eval_seg"):
        row = rows.get(key)
        for name, after in (("miou", ""), ("miou_crf", ", after CRF")):
            if row is not None and row.get(name) is not None:
                figures.append((percent(row[name]), "% mIoU", f"{row['name']}{after}"))
    if "eval_cam" in rows:
        figures.append((percent(rows["eval_cam"]["miou"]), "% mIoU", "CAM, best threshold"))
    count = len(facts["gallery"]["images"])
    figures.append((f"{count:,}", "images" if count != 1 else "image", "in the gallery"))
    seconds = sum(step["seconds"] or 0 for step in facts["steps"])
    if seconds:
        figures.append((duration(seconds), "", "work in all steps"))
    return figures


def _class_rows(facts: Facts) -> Facts:
    """IoU of each class that occurs in any score: columns of masks, rows of classes."""
    columns = []
    for row in facts["scores"]:
        for name, after in (("iou", ""), ("iou_crf", " + CRF")):
            if row.get(name):
                columns.append((f"{row['name']}{after}", row["note"], row[name]))
    names = [
        name
        for name in facts["class_names"]
        if any(iou.get(name) is not None for _, _, iou in columns)
    ]
    return {
        "columns": [(title, note) for title, note, _ in columns],
        "rows": [(name, [iou.get(name) for _, _, iou in columns]) for name in names],
    }


def _has_points(curve: Facts, *columns: str) -> bool:
    """Whether each column has a number at all."""
    return all(any(value is not None for value in curve[name]) for name in columns)


def _training_charts(curve: Facts) -> Facts:
    """Loss and learning rate of a network, one above the other."""
    loss = line_chart([Line("loss", curve["update"], curve["loss"])], "update")
    rate = line_chart([Line("learning rate", curve["update"], curve["learning_rate"])], "update",
                      height=110)  # fmt: skip
    return {"name": curve["name"], "loss": loss, "rate": rate, "last": curve["loss"][-1]}


def _threshold_chart(curves: Sequence[Facts]) -> Facts | None:
    if not curves:
        return None
    lines = [Line(each["name"], each["threshold"], _hundred(each["miou"])) for each in curves]
    best, chosen = ([each[name] for each in curves] for name in ("best", "chosen"))
    marks = [
        *(Mark(at["threshold"], 100 * at["miou"], percent(at["miou"])) for at in best),
        *(Mark(at["threshold"], 100 * at["miou"], "") for at in chosen),
    ]
    return line_chart(lines, "background threshold", marks, height=260)


def _confusion_view(confusion: Facts | None) -> Facts | None:
    """Shares of each true class, and the largest confusions in words."""
    if confusion is None:
        return None
    classes, open_pixels = confusion["classes"], confusion["open"]
    totals = [sum(row) + left for row, left in zip(confusion["pixels"], open_pixels, strict=True)]
    shares = [
        [pixels / total if total else None for pixels in row]
        for row, total in zip(confusion["pixels"], totals, strict=True)
    ]
    wrong = [
        (share, classes[r], classes[c])
        for r, row in enumerate(shares)
        for c, share in enumerate(row)
        if r != c and share and share >= SMALLEST_SHARE
    ]
    wrong.sort(key=lambda each: (-each[0], each[1], each[2]))
    lost = [1 - (row[r] or 0) if totals[r] else -1.0 for r, row in enumerate(shares)]
    worst = sorted(range(len(classes)), key=lambda k: (k > 0, -lost[k]))[:MATRIX_CLASSES]
    shown = sorted(worst)
    return {
        "of": confusion["of"],
        "left_out": len(classes) - len(shown),
        "has_open": any(open_pixels),
        "columns": [classes[k] for k in shown],
        "rows": [
            (classes[r], [(shares[r][c], r == c) for c in shown],
             open_pixels[r] / totals[r] if totals[r] else None)
            for r in shown
        ],
        "largest": wrong[:CONFUSIONS],
    }  # fmt: skip
