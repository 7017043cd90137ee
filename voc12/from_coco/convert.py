"""COCO's annotation files into one dataset: in several processes, resumed after any stop."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from misc.errors import UserError
from misc.images import DECODING_ERRORS, image_size, open_picture, write_palette_png
from misc.log import progress
from misc.runtime import WorkerPool
from misc.workspace import Identity, Record, atomic_write, content_digest, read_json, write_json
from voc12.files import VocDataset
from voc12.from_coco.index import CocoImage, CocoIndex, read_index
from voc12.from_coco.masks import draw
from voc12.from_coco.root import CocoRoot, Done, summarize
from voc12.links import is_linked, link_image
from voc12.lists import check_ids

CHUNK = 64  # images that a process takes at once; what an interruption costs
SHOWN = 10


class Source(NamedTuple):
    """An annotation file, the folder of its images, and the split that it makes."""

    annotations: Path
    images: Path
    split: str


class Chunk(NamedTuple):
    """Images to convert together; `part` is where what was found in them goes."""

    part: Path
    images: list[CocoImage]


@dataclass(frozen=True)
class MaskWriter:
    """What is the same for all images of an annotation file; call it with a chunk."""

    dataset: VocDataset
    source: Source
    class_ids: dict[int, int]
    crowd: str

    def __call__(self, chunk: Chunk) -> list[str | None]:
        """Convert the images of a chunk; what is wrong with each, or None."""
        done: list[Done] = []
        problems: list[str | None] = []
        for image in chunk.images:
            try:
                done.append(self._convert(image))
                problems.append(None)
            except UserError as error:
                problems.append(f"{image.image_id}: {error}")
        if not any(problems):
            write_json(chunk.part, done)
        return problems

    def _convert(self, image: CocoImage) -> Done:
        path = self.source.images / image.file_name
        size = image_size(path)
        if image.size not in (None, size):
            raise UserError(
                f"{path} is {size[1]}x{size[0]}, but {self.source.annotations} says "
                f"{image.size[1]}x{image.size[0]}. Replace one of them."
            )
        try:
            drawing = draw(image.annotations, size, self.class_ids, self.crowd)
        except UserError as error:
            raise UserError(f"{self.source.annotations}, {error}. Correct or remove it.") from None
        link = self.dataset.root / "JPEGImages" / image.link_name
        link_image(path, link)
        with atomic_write(self.dataset.mask_path(image.image_id)) as file:
            write_palette_png(file, drawing.mask)
        return {
            "id": image.image_id,
            "classes": drawing.class_ids,
            "gray": _is_gray(path),
            "crowds": drawing.num_crowds,
            "without_pixels": drawing.without_pixels,
            "link": "symbolic link" if link.is_symlink() else "hard link",
        }


def _is_gray(path: Path) -> bool:
    try:
        with open_picture(path) as picture:
            return picture.mode in ("L", "LA", "1") or picture.mode.startswith("I")
    except DECODING_ERRORS as error:
        raise UserError(f"Cannot read the image {path}: {error}. Replace the file.") from None


def convert(
    sources: Sequence[Source],
    out: Path,
    *,
    crowd: str,
    list_images: str,
    skip_missing: bool = False,
    overwrite: bool = False,
    num_workers: int = 0,
) -> dict[str, dict]:
    """Convert annotation files into one dataset; what is there and current is kept.

    Args:
        sources: what to convert; their categories are the same.
        out: the dataset's folder; it may hold other converted files.
        crowd: `ignore` (255) or `background`: what a pixel of a crowd region alone becomes.
        list_images: which images `<split>.txt` has: `labelled` or `all`.
        skip_missing: leave out images whose file is missing.
        overwrite: convert again what was converted with different settings.
        num_workers: processes; 0: in this one.

    Returns:
        stem of each annotation file -> what was found in it.

    Raises:
        UserError: naming all that is wrong; good images are converted nevertheless.
    """
    indexes = [read_index(source.annotations) for source in sources]
    missing = [_missing(s, index, skip_missing) for s, index in zip(sources, indexes, strict=True)]
    root = CocoRoot(out)
    _demand_one_dataset(sources, indexes, root)
    records = {
        s.annotations: Record(
            {"split": s.split},
            {s.annotations.name: Identity.of_content(content_digest(s.annotations))},
        )
        for s in sources
    }
    root.claim(indexes, records, crowd, overwrite=overwrite)
    dataset = VocDataset.open(out)
    pending = [_pending(*item, root) for item in zip(sources, indexes, missing, strict=True)]
    summaries = {}
    # Starting processes takes seconds: not for nothing.
    with WorkerPool(num_workers if any(pending) else 0) as pool:
        for source, index, absent, chunks in zip(sources, indexes, missing, pending, strict=True):
            if chunks:
                _write_masks(pool, MaskWriter(dataset, source, index.class_ids, crowd), chunks)
            done = root.converted(source.annotations).done()
            summary = {"annotations_path": str(source.annotations.absolute()), "crowd": crowd}
            summary |= {"split": source.split, "listed": list_images}
            summary |= summarize(index, done, sorted(absent))
            summaries[source.annotations.stem] = summary
    root.finish(summaries, list_images)
    return summaries


def _write_masks(pool: WorkerPool, write: MaskWriter, chunks: Sequence[Chunk]) -> None:
    """Convert what is pending of an annotation file, or raise all problems."""
    total = sum(len(chunk.images) for chunk in chunks)
    results = chain.from_iterable(pool.map(write, chunks))
    bar = progress(results, desc=f"masks of {write.source.split}", total=total)
    problems = sorted(problem for problem in bar if problem)
    if problems:
        shown = "\n  ".join(_shorten(problems))
        raise UserError(
            f"{len(problems)} of {total} images of {write.source.annotations} were not converted:\n"
            f"  {shown}\nThe others were. Correct these and run again; no list was written."
        )


def _pending(source: Source, index: CocoIndex, missing: set[str], root: CocoRoot) -> list[Chunk]:
    """The chunks that are not wholly done."""
    state = root.converted(index.path)
    with os.scandir(root.root / "SegmentationClass") as entries:
        masks = {entry.name for entry in entries}
    pending = []
    for number, start in enumerate(range(0, len(index.images), CHUNK)):
        images = [i for i in index.images[start : start + CHUNK] if i.file_name not in missing]
        part = state.part_path(number)
        whole = (
            part.exists()
            and [done["id"] for done in read_json(part)] == [i.image_id for i in images]
            and all(f"{image.image_id}.png" in masks for image in images)
            and all(_has_link(root, source, image) for image in images)
        )
        if not whole:
            pending.append(Chunk(part, images))
    return pending


def _has_link(root: CocoRoot, source: Source, image: CocoImage) -> bool:
    return is_linked(source.images / image.file_name, root.root / "JPEGImages" / image.link_name)


def _missing(source: Source, index: CocoIndex, skip: bool) -> set[str]:
    """File names of the images that are not there.

    Raises:
        UserError: if there are some and they are not to be left out, or none is there.
    """

    @cache
    def names_in(folder: Path) -> set[str]:
        return set(os.listdir(folder)) if folder.is_dir() else set()

    paths = {image.file_name: source.images / image.file_name for image in index.images}
    missing = {name for name, path in paths.items() if path.name not in names_in(path.parent)}
    if len(missing) == len(paths) or (missing and not skip):
        shown = "\n  ".join(_shorten(sorted(missing)))
        raise UserError(
            f"{source.images} lacks {len(missing)} of {len(paths)} images of {index.path}:\n"
            f"  {shown}\nPut them there, correct --images, or pass --missing_images skip to leave "
            "them out."
        )
    return missing


def _demand_one_dataset(
    sources: Sequence[Source], indexes: Sequence[CocoIndex], root: CocoRoot
) -> None:
    """Refuse annotation files that cannot stand side by side in one folder."""
    stems = [source.annotations.stem for source in sources]
    if len(set(stems)) < len(stems):
        raise UserError("Two annotation files have the same name. Rename one of them.")
    first = indexes[0]
    for index in indexes[1:]:
        if (index.class_ids, index.class_names) != (first.class_ids, first.class_names):
            raise UserError(
                f"{index.path} and {first.path} have different categories. Give each its own --out."
            )
    check_ids([i.image_id for index in indexes for i in index.images], indexes[-1].path)
    root.demand_new_ids(indexes)


def _shorten(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"... and {more} more"] if more > 0 else [])]
