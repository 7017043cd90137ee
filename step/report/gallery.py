"""The gallery: small pictures of every image, made once, and how good each image's masks are."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from misc.errors import UserError
from misc.images import image_size, read_mask
from misc.log import progress
from misc.metrics import ConfusionMatrix, Faults, faults_of
from misc.runtime import WorkerPool
from misc.workspace import atomic_write, is_file_name, read_memory, stat_digest
from step.artefacts import has_exact_masks
from step.common.results import CamFile
from step.common.scores import IMAGES_A_TASK, chunks, naming
from step.report.layers import (
    EXACT,
    LEVELS,
    LONGEST_SIDE,
    PHOTO,
    Draw,
    Layer,
    fitting,
    layers_of,
    suffix_of,
)
from voc12.picture_sizes import Size

if TYPE_CHECKING:
    from step.run import Run

RECORD_NAME = "made.json"
VERSION = 1  # of the small pictures and of the record
BEST_FIRST = ("refined_crf", "refined", "mask_crf", "mask")
"""Keys of masks that the gallery is sorted by: the first that is there."""
Cells = list[list[int]]
"""A confusion matrix's cells that are not 0, [truth, mask, pixels]; mask C: left open."""


@dataclass
class Shown:
    """What is known of one image.

    Attributes:
        size: (H,W) of the photograph.
        made: layer -> stamp of the files that its small picture was made from.
        cells: layer of masks -> its confusion with the exact mask.
    """

    size: Size = (0, 0)
    made: dict[str, str] = field(default_factory=dict)
    cells: dict[str, Cells] = field(default_factory=dict)


@dataclass(frozen=True)
class Gallery:
    """The images in the report.

    Attributes:
        layers: what there is of them.
        images: image id -> what is known of it, in the order of the list.
        num_classes: with background.
        count: small pictures that were made this time.
        problems: files that could not be shown, a line each.
    """

    layers: Sequence[Layer]
    images: Mapping[str, Shown]
    num_classes: int
    count: int = 0
    problems: Sequence[str] = ()

    @cached_property
    def scored_layers(self) -> list[str]:
        """Layers of masks that are compared with exact ones, in their order."""
        there = {key for shown in self.images.values() for key in shown.cells}
        return [layer.key for layer in self.layers if layer.key in there]

    @cached_property
    def main(self) -> str:
        """The layer that images are judged by; "" without any."""
        scored = self.scored_layers
        return next((key for key in (*BEST_FIRST, *scored) if key in scored), "")

    def confusion(self, key: str) -> ConfusionMatrix:
        """All pixels of a layer of masks."""
        total = ConfusionMatrix(self.num_classes)
        for shown in self.images.values():
            if key in shown.cells:
                total.merge(self.confusion_of(shown, key))
        return total

    def confusion_of(self, shown: Shown, key: str) -> ConfusionMatrix:
        """Those of one image."""
        return _confusion_of(shown.cells[key], self.num_classes)

    def title_of(self, key: str) -> str:
        """What people call a layer."""
        return next(layer.title for layer in self.layers if layer.key == key)

    def to_json(self) -> dict[str, Any]:
        """Layers, and the images in the order of the page: the worst first, else by their ids."""
        entries = [self._entry(image_id, shown) for image_id, shown in self.images.items()]
        if self.main:
            entries.sort(key=lambda each: (each["iou"].get(self.main, 2), each["id"]))
        else:
            entries.sort(key=lambda each: each["id"])
        return {
            "layers": [
                {"key": layer.key, "title": layer.title, "suffix": suffix_of(layer.key),
                 "legend": layer.legend}
                for layer in self.layers
            ],
            "scored": self.scored_layers,
            "main": self.main,
            "images": entries,
        }  # fmt: skip

    def _entry(self, image_id: str, shown: Shown) -> dict[str, Any]:
        """What is known of an image: IoU of its masks, the mean over classes in either mask."""
        faults = self.faults_of(shown)
        iou = {}
        for key in shown.cells:
            miou = self.confusion_of(shown, key).scores(count_unscored=True).miou
            if not np.isnan(miou):  # of an exact mask that is all void
                iou[key] = round(miou, 4)
        return {
            "id": image_id,
            "size": list(fitting(shown.size)),
            "layers": [layer.key for layer in self.layers if layer.key in shown.made],
            "iou": iou,
            "classes": self._classes_of(shown),
            "missed": list(faults.missed),
            "too_large": list(faults.too_large),
            "confused": [list(pair) for pair in faults.confused],
        }

    def _classes_of(self, shown: Shown) -> list[int]:
        """Class ids from 1 in the exact mask or in the mask."""
        cells = shown.cells.get(self.main, [])
        there = {k for truth, mask, _ in cells for k in (truth, mask)}
        return sorted(there - {0, self.num_classes})

    def faults_of(self, shown: Shown) -> Faults:
        """What went wrong with the masks that it is judged by."""
        if self.main not in shown.cells:
            return Faults([], [], [])
        confusion = self.confusion_of(shown, self.main)
        return faults_of(confusion.matrix, confusion.unscored)


def counts_of(cells: Cells, num_classes: int) -> NDArray[np.int64]:
    """Pixels of each class (3,C) in one image: right, true and predicted ones; open ones are wrong.

    They are `ConfusionMatrix.counts`, and add up over images.
    """
    return _confusion_of(cells, num_classes).counts(count_unscored=True)


def _confusion_of(cells: Cells, num_classes: int) -> ConfusionMatrix:
    found = ConfusionMatrix(num_classes)
    for truth, mask, pixels in cells:
        if mask == num_classes:
            found.unscored[truth] = pixels
        else:
            found.matrix[truth, mask] = pixels
    return found


class Job(NamedTuple):
    """What a worker makes of one image: layer -> its files, how it is drawn, and where it goes."""

    image_id: str
    photograph: Path
    draws: Mapping[str, tuple[CamFile, Draw, Path]]
    masks: Mapping[str, Path]
    truth: Path | None
    num_classes: int


class Done(NamedTuple):
    """What a worker made of one image."""

    image_id: str
    size: Size
    layers: Sequence[str]
    cells: Mapping[str, Cells]
    problems: Sequence[str]


def shown_ids(run: "Run") -> tuple[list[str], str]:
    """The scored images, those that get masks where there are no exact ones; why there are none.

    Steps that need no such list run without it, and so does the report.
    """
    name = run.config.chainer_eval_set
    is_scored = has_exact_masks(run.config) and run.dataset.list_path(name).exists()
    try:
        return (run.eval_ids if is_scored else run.infer_ids), ""
    except UserError as error:
        return [], error.message


def make_gallery(run: "Run", ids: Sequence[str], folder: Path) -> Gallery:
    """Make the small pictures that are missing or older than their files.

    Whatever cannot be read is left out and told; it never ends the run.
    """
    layers = layers_of(run, ids)
    classes = run.dataset.num_classes + 1
    record = folder / RECORD_NAME
    version = [VERSION, LONGEST_SIDE, LEVELS, classes]
    images = _read_record(record, version, ids, folder)
    jobs = list(_jobs(run, layers, images, folder, classes))
    if not record.exists():  # after a kill, it tells whose the pictures are
        _write_record(record, version, {})
    problems: list[str] = []
    count = 0
    try:
        for done in _made(run, jobs, folder, layers):
            shown, stamps = images[done.image_id], _stamps(layers, done.image_id)
            shown.size = done.size
            shown.made |= {key: stamps[key] for key in done.layers}
            shown.cells.update(done.cells)
            problems += done.problems
            count += len(done.layers)
    finally:
        if jobs:
            _write_record(record, version, images)
    return Gallery(layers, images, classes, count, problems)


def _read_record(
    path: Path, version: list[int], ids: Sequence[str], folder: Path
) -> dict[str, Shown]:
    """What an earlier report knew of these images, if it was made as this one is.

    Small pictures of other images go.
    """
    content = read_memory(path)
    entries = content.get("images")
    known = {
        image_id: shown
        for image_id, entry in (entries.items() if isinstance(entries, dict) else ())
        if (shown := _shown_of(entry)) is not None
    }
    for image_id in known.keys() - set(ids):
        for key in known[image_id].made:
            # Whoever wrote the record: nothing outside the folder is deleted.
            if is_file_name(image_id) and is_file_name(key):
                (folder / key / f"{image_id}{suffix_of(key)}").unlink(missing_ok=True)
    if content.get("version") != version:
        return {image_id: Shown() for image_id in ids}
    return {i: known.get(i, Shown()) for i in ids}


def _write_record(path: Path, version: list[int], images: Mapping[str, Shown]) -> None:
    content = {i: dataclasses.asdict(shown) for i, shown in images.items()}
    # In one line: indented it would take three times as long, and as much space.
    text = json.dumps({"version": version, "images": content}, separators=(",", ":"))
    with atomic_write(path) as file:
        file.write(text.encode())


def _shown_of(entry: object) -> Shown | None:
    """What a record says of an image; None where it is damaged, or of another version."""
    match entry:
        case {"size": [int(height), int(width)], "made": dict(made), "cells": dict(cells)}:
            return Shown((height, width), made, cells)
    return None


def picture_path(folder: Path, layer: Layer, image_id: str) -> Path:
    """Where a small picture lies."""
    return folder / layer.key / f"{image_id}{suffix_of(layer.key)}"


def _stamps(layers: Sequence[Layer], image_id: str) -> dict[str, str]:
    """Layer -> what changes when the image's files of that layer do."""
    stamps = {}
    for layer in layers:
        if (file := layer.files.get(image_id)) is not None:
            stamps[layer.key] = stat_digest([file] if isinstance(file, Path) else file)
    exact = stamps.get(EXACT, "")
    # Masks are scored as they are drawn: again too where the exact mask changed.
    return {
        layer.key: f"{stamps[layer.key]}+{exact}" if layer.is_mask else stamps[layer.key]
        for layer in layers
        if layer.key in stamps
    }


def _jobs(
    run: "Run", layers: Sequence[Layer], images: Mapping[str, Shown], folder: Path, classes: int
) -> Iterator[Job]:
    """What is to be made; what is known of files that are gone is forgotten."""
    there = {
        layer.key: _names(folder / layer.key) for layer in layers
    }  # listed once, not asked for each file
    for image_id, shown in images.items():
        stamps = _stamps(layers, image_id)
        shown.made = {k: v for k, v in shown.made.items() if stamps.get(k) == v}
        shown.cells = {k: v for k, v in shown.cells.items() if k in shown.made}
        todo = [
            layer
            for layer in layers
            if layer.key in stamps
            and (
                layer.key not in shown.made
                or picture_path(folder, layer, image_id).name not in there[layer.key]
            )
        ]
        if todo:
            truth = next((each.files.get(image_id) for each in layers if each.key == EXACT), None)
            assert truth is None or isinstance(truth, Path)
            yield Job(
                image_id,
                run.dataset.image_path(image_id),
                {
                    layer.key: (
                        layer.files[image_id], layer.draw, picture_path(folder, layer, image_id)
                    )
                    for layer in todo
                },
                {k.key: f for k in todo if k.is_mask and k.key != EXACT
                 and isinstance(f := k.files[image_id], Path)},
                truth,
                classes,
            )  # fmt: skip


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _made(run: "Run", jobs: Sequence[Job], folder: Path, layers: Sequence[Layer]) -> Iterator[Done]:
    for layer in layers:
        (folder / layer.key).mkdir(parents=True, exist_ok=True)
    tasks = chunks(jobs)
    with WorkerPool(run.runtime.num_workers if len(tasks) > 1 else 0) as pool:
        made = pool.map(_make_all, tasks)
        for part in progress(made, desc="report", total=len(jobs), each=IMAGES_A_TASK):
            yield from part


def _make_all(jobs: list[Job]) -> list[Done]:
    return [_make(job) for job in jobs]


def _make(job: Job) -> Done:
    problems: list[str] = []
    layers: list[str] = []
    cells: dict[str, Cells] = {}
    try:
        size = image_size(job.photograph)
        truth = None if job.truth is None else read_mask(job.truth)
    except UserError as error:
        return Done(job.image_id, (0, 0), [], {}, [error.message])
    for key, (file, draw, path) in job.draws.items():
        try:
            picture = draw(file, size)
            if truth is not None and key in job.masks:
                cells[key] = _cells(job, key, truth)
        except UserError as error:
            problems.append(error.message)
            continue
        with atomic_write(path) as opened:
            if key == PHOTO:
                picture.save(opened, "JPEG", quality=80)
            else:
                picture.save(opened, "PNG")
        layers.append(key)
    return Done(job.image_id, size, layers, cells, problems)


def _cells(job: Job, key: str, truth: NDArray[np.uint8]) -> Cells:
    """The confusion of a mask with the exact one.

    Raises:
        UserError: if they do not fit.
    """
    assert job.truth is not None
    path = job.masks[key]
    mask = read_mask(path)
    if mask.shape != truth.shape:
        raise UserError(f"{path} and {job.truth} differ in size. Replace one of them.")
    confusion = ConfusionMatrix(job.num_classes)
    with naming(job.truth):
        confusion.add(truth, mask)
    counts = np.column_stack([confusion.matrix, confusion.unscored])
    places = np.argwhere(counts)
    return [[*place, int(counts[tuple(place)])] for place in places.tolist()]
