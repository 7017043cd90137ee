"""Starting a run on 100,000 images: lists, tags, and the plan of all steps.

The first start reads every file's content once; later ones know it by size and time.

python -m tests.benchmarks.startup [--quick] [--json FILE] [--images 100000]

Draws the dataset in a temporary folder (TMPDIR names another place) and deletes it after. Each row
is a process of its own; seconds and memory are those above Python with torch and our steps loaded.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from misc.images import write_palette_png
from tests.benchmarks.common import Report, make_parser, measure_once

if TYPE_CHECKING:
    from step.common.runner import Runner

CLASSES = 80
DRAWN = 50  # pictures that differ; the rest are further names of theirs
FULL_COUNT, QUICK_COUNT = 100_000, 200
MOST_SECONDS, MOST_MIB = 20, 300
SIZES = ((48, 64), (64, 48), (40, 40))


class Start(NamedTuple):
    """What one start took: phase -> seconds, CPU seconds in all, memory, pending images."""

    seconds: dict[str, float]
    cpu_seconds: float
    peak_mib: float
    pending: int


def class_ids(index: int) -> list[int]:
    """The classes of the image of this number, one to three of them."""
    return sorted({1 + (7 * index + 31 * k) % CLASSES for k in range(1 + index % 3)})


def draw(root: Path, count: int) -> None:
    """Tiny images, masks, saliency maps, XML and a table of tags: files of DRAWN images, linked."""
    folders = {"JPEGImages": ".jpg", "SegmentationClass": ".png", "Sal": ".png"}
    folders["Annotations.hidden"] = ".xml"
    for name in folders:
        (root / name).mkdir(parents=True)
    names = [f"class {c:02d}" for c in range(1, CLASSES + 1)]
    (root / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    ids = [f"COCO_train2014_{i:012d}" for i in range(count)]
    for i, image_id in enumerate(ids):
        paths = [root / name / f"{image_id}{suffix}" for name, suffix in folders.items()]
        if i < DRAWN:
            write_files(i, names, *paths)
            continue
        for path in paths:
            os.link(path.with_name(f"{ids[i % DRAWN]}{path.suffix}"), path)
    tags = [[names[c - 1] for c in class_ids(i)] for i in range(DRAWN)]
    rows = ([image_id, *tags[i % DRAWN]] for i, image_id in enumerate(ids))
    table = "".join(",".join(row) + "\n" for row in [["id", "class"], *rows])
    (root / "tags.csv").write_text(table, encoding="utf-8")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, part in (("train", ids), ("train_aug", ids), ("val", ids[: count // 10])):
        (lists / f"{split}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")


def write_files(index: int, names: Sequence[str], *paths: Path) -> None:
    """Photograph, mask, saliency map and XML of one image."""
    rng = np.random.default_rng(index)
    height, width = SIZES[index % len(SIZES)]
    image, mask_path, saliency, xml = paths
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(image)
    mask = np.zeros((height, width), np.uint8)
    for k, class_id in enumerate(class_ids(index)):
        mask[8 * k : 8 * k + 8, 8:24] = class_id
    write_palette_png(mask_path, mask)
    Image.fromarray((mask > 0).astype(np.uint8) * 255).save(saliency)
    objects = "".join(
        f"<object><name>{names[c - 1]}</name><bndbox><xmin>9</xmin><ymin>1</ymin><xmax>24</xmax>"
        "<ymax>8</ymax></bndbox></object>\n"
        for c in class_ids(index)
    )
    xml.write_text(f"<annotation><size><width>{width}</width></size>\n{objects}</annotation>\n")


def runner_of(root: Path, out_dir: Path) -> "Runner":
    """A run of all steps that are on by default, not yet planned."""
    from misc.config import config_from
    from misc.runtime import make_runtime
    from run_sample import make_parser as make_run_parser
    from run_sample import requested_steps
    from step.common.runner import Runner
    from step.graph import full_config_class
    from step.run import Run

    arguments = [f"--data_root={root}", f"--out_dir={out_dir}", "--device=cpu", "--num_workers=2"]
    args = make_run_parser().parse_args([*arguments, "--backbone_weights=none"])
    config = config_from(vars(args), full_config_class())
    run = Run.of(config, make_runtime(config.device, config.precision, config.num_workers))
    return Runner(run, [node for step in requested_steps(config) for node in step.nodes(run)])


def link_artefacts(root: Path, out_dir: Path) -> None:
    """CAMs, walked scores and every second mask as if a run had been stopped (they are empty)."""
    from step.graph import ImageStep

    runner = runner_of(root, out_dir)
    for row in runner.make_plan().rows:
        step, record = row.node.step, row.status.record
        if step.name not in ("make_cam", "make_walk", "make_sem_seg") or record is None:
            continue
        assert isinstance(step, ImageStep)
        ids = list(record.images)
        made = ids[::2] if step.name == "make_sem_seg" else ids
        folder = step.writes.folder(runner.run)
        folder.begin(record, made, anew=False)
        for i, image_id in enumerate(made):
            for suffix in folder.suffixes:
                if i < DRAWN:
                    folder.file(image_id, suffix).touch()
                else:
                    os.link(folder.file(made[i % DRAWN], suffix), folder.file(image_id, suffix))


def start(root: Path, out_dir: Path) -> Start:
    """Start a run of all steps up to where the first of them would begin its work."""
    from step.graph import ImageStep

    runner = runner_of(root, out_dir)
    run = runner.run
    phases: dict[str, Callable[[], object]] = {
        "lists": lambda: (run.cam_ids, run.val_ids, run.infer_ids, run.eval_ids),
        "tags": lambda: run.tags,
        "plan": runner.make_plan,
        "save": run.save_notes,
    }
    seconds = {}

    def run_all() -> int:
        for name, phase in phases.items():
            begun = time.perf_counter()
            phase()
            seconds[name] = time.perf_counter() - begun
        rows = [row for row in runner.plan.rows if isinstance(row.node.step, ImageStep)]
        assert not runner.plan.problems, runner.plan.problems
        return sum(len(row.status.todo) for row in rows)

    cpu = time.process_time()
    measured = measure_once(run_all)
    return Start(seconds, time.process_time() - cpu, measured.peak_mib, measured.result)


def add_row(report: Report, what: str, root: Path, out_dir: Path) -> None:
    """Start in a fresh process, so that nothing is known from an earlier start."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(start, root, out_dir).result()
    report.add(
        what,
        seconds=sum(found.seconds.values()),
        cpu_seconds=found.cpu_seconds,
        peak_mib=found.peak_mib,
        **{f"{name}_s": seconds for name, seconds in found.seconds.items()},
        pending=found.pending,
    )
    if not report.quick:
        seconds = sum(found.seconds.values())
        if not what.startswith("first"):  # the first one may read every byte
            report.target(f"{what}: seconds", seconds, at_most=MOST_SECONDS)
        report.target(f"{what}: MiB over base", found.peak_mib, at_most=MOST_MIB)


def compare(report: Report, args: argparse.Namespace, folder: Path) -> None:
    """First start with each source of tags, a second start, and one amid the work."""
    count = QUICK_COUNT if args.quick else args.images
    root = folder / "dataset"
    draw(root, count)
    add_row(report, f"first start, {count} images, tags.csv", root, folder / "csv")
    add_row(report, "started again", root, folder / "csv")
    (root / "Annotations.hidden").rename(root / "Annotations")
    add_row(report, "first start, tags from XML", root, folder / "xml")
    add_row(report, "started again", root, folder / "xml")
    link_artefacts(root, folder / "xml")
    add_row(report, "CAMs and half of the masks made", root, folder / "xml")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=FULL_COUNT, help="default: 100000")
    args = parser.parse_args(arguments)
    report = Report("Starting a run", quick=args.quick)
    with TemporaryDirectory() as folder:
        compare(report, args, Path(folder))
    report.finish(args.json)


if __name__ == "__main__":
    main()
