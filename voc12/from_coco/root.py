"""The folder that COCO's annotations are converted into: what is done, lists, tags, provenance."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from misc.errors import UserError
from misc.workspace import (
    Identity,
    Record,
    atomic_write,
    claim_record,
    digest,
    read_json,
    remove_partial_files,
    write_json,
)
from voc12.files import VocDataset
from voc12.from_coco.index import CocoIndex
from voc12.from_coco.masks import DRAWING_ORDER
from voc12.lists import check_ids
from voc12.tag_table import HEADER, TAGS_FILE

STATE_FOLDER = "from_coco"
RECORD_NAME = "settings.json"
PROVENANCE_NAME = "provenance.json"
NAMED_EXAMPLES = 20
LISTS = ("labelled", "all")

Done = dict[str, Any]  # of one image: id, classes, gray, crowds, without_pixels, link


@dataclass(frozen=True)
class Converted:
    """The state of an annotation file in the folder: its record, one part per chunk of images."""

    folder: Path

    @property
    def record_path(self) -> Path:
        """Where the record lies."""
        return self.folder / RECORD_NAME

    def part_path(self, number: int) -> Path:
        """Where what was found in a finished chunk lies."""
        return self.folder / f"part_{number:05d}.json"

    def done(self) -> list[Done]:
        """All finished images, in the order of the annotation file."""
        return list(chain.from_iterable(map(read_json, sorted(self.folder.glob("part_*.json")))))


class CocoRoot:
    """A dataset in VOC layout that is filled from COCO's annotations."""

    def __init__(self, root: Path) -> None:
        """Describe the folder; nothing is read or made."""
        self.root = root
        self.state = root / STATE_FOLDER
        self.lists = root / "ImageSets" / "Segmentation"

    def converted(self, annotations: Path) -> Converted:
        """The state of an annotation file, known by its name."""
        return Converted(self.state / annotations.stem)

    def claim(
        self,
        indexes: Sequence[CocoIndex],
        records: Mapping[Path, Record],
        crowd: str,
        *,
        overwrite: bool,
    ) -> None:
        """Make the folder ours, for these annotation files: compare with its records, or write.

        Args:
            indexes: the annotation files, all of the same categories.
            records: what makes the masks of each.
            crowd: what crowd regions become; one for all files of the folder.
            overwrite: forget what was made of these files before.

        Raises:
            UserError: if what it holds has different settings or was not made here.
        """
        class_names = indexes[0].class_names
        inputs = {
            "the order of drawing": Identity.of_content(digest(DRAWING_ORDER)),
            "the categories": Identity.of_content(
                digest(list(indexes[0].class_ids) + list(class_names))
            ),
        }
        record, record_path = Record({"crowd": crowd}, inputs), self.state / RECORD_NAME
        if not record_path.exists():
            self._demand_empty()
        elif overwrite:
            self._forget(indexes, everything=Record.read(record_path) != record)
            record.write(record_path)
        claim_record(record_path, record, f"What {self.root} holds", "choose another --out")
        for index in indexes:
            state = self.converted(index.path)
            what = f"What {self.root} holds of {index.path.name}"
            remedy = "rename the file if it is a different one, choose another --out"
            claim_record(state.record_path, records[index.path], what, remedy)
        pictures = [self.root / name for name in ("JPEGImages", "SegmentationClass")]
        for folder in pictures:
            folder.mkdir(exist_ok=True)
        for folder in (self.root, self.lists, self.state, *self._states(), *pictures):
            remove_partial_files(folder)
        self._write_lines(self.root / "classes.txt", class_names)

    def _demand_empty(self) -> None:
        for name in ("classes.txt", TAGS_FILE, "ImageSets", "SegmentationClass"):
            if (self.root / name).exists():
                raise UserError(
                    f"{self.root / name} exists and was not made from COCO. Choose another --out."
                )
        images = self.root / "JPEGImages"
        if images.is_dir() and (link := next(filter(Path.is_symlink, images.iterdir()), None)):
            raise UserError(f"{link} is a link that was not made from COCO. Choose another --out.")

    def _forget(self, indexes: Sequence[CocoIndex], *, everything: bool) -> None:
        """Delete lists and state of these files; the masks stay until they are drawn again."""
        states = [self.converted(index.path).folder for index in indexes]
        if everything:
            others = sorted(p.name for p in self.state.iterdir() if p.is_dir() and p not in states)
            if others:
                raise UserError(
                    f"{self.root} also holds {', '.join(others)}, made with "
                    "different settings. Pass all annotation files in one run with --overwrite, "
                    "or choose another --out."
                )
        for state in states:
            known = Record.read(state / RECORD_NAME)
            if known is not None:
                for path in self.list_paths(known.settings["split"]).values():
                    path.unlink(missing_ok=True)
            # The record goes last: what is left of a broken deletion is still known as ours.
            for path in (*state.glob("part_*.json"), state / RECORD_NAME):
                path.unlink(missing_ok=True)

    def list_paths(self, split: str) -> dict[str, Path]:
        """The lists of a split: `labelled`, `all`, and the one that is used, under ""."""
        names = {name: f"{split}_{name}.txt" for name in LISTS} | {"": f"{split}.txt"}
        return {name: self.lists / file_name for name, file_name in names.items()}

    def demand_new_ids(self, indexes: Sequence[CocoIndex]) -> None:
        """Refuse ids that another annotation file of the folder has too.

        Raises:
            UserError: naming one of them.
        """
        named = {self.converted(index.path).folder for index in indexes}
        others = [p for p in self._states() if p not in named]
        ids = [image.image_id for index in indexes for image in index.images]
        check_ids(ids + [done["id"] for p in others for done in Converted(p).done()], self.root)

    def _states(self) -> list[Path]:
        if not self.state.is_dir():
            return []
        return sorted(path for path in self.state.iterdir() if path.is_dir())

    def finish(self, summaries: Mapping[str, dict[str, Any]], chosen: str) -> None:
        """Write lists, tags and provenance, after all images of these annotation files are done.

        Args:
            summaries: stem of an annotation file -> what to report of it, its split among it.
            chosen: which list `<split>.txt` is.
        """
        path = self.state / PROVENANCE_NAME
        known = read_json(path) if path.exists() else {}
        finished = known.get("annotation_files", {}) | dict(summaries)
        done = {name: Converted(self.state / name).done() for name in finished}
        for split in sorted({summary["split"] for summary in summaries.values()}):
            of_split = [
                d for n, images in done.items() if finished[n]["split"] == split for d in images
            ]
            ids = {"labelled": sorted(d["id"] for d in of_split if d["classes"])}
            ids["all"] = sorted(d["id"] for d in of_split)
            for name, list_path in self.list_paths(split).items():
                self._write_lines(list_path, ids[name or chosen])
        self._write_tags(chain.from_iterable(done.values()))
        content = {
            "made_by": "voc12.from_coco",
            "pycocotools": version("pycocotools"),
            "drawing_order": DRAWING_ORDER,
            "tags": "every class with a pixel in an annotation, crowds among them",
            "annotation_files": finished,
        }
        write_json(path, content)

    def _write_tags(self, images: Iterable[Done]) -> None:
        names = VocDataset.open(self.root).class_names
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADER.split(","))
        for image in sorted(images, key=lambda image: image["id"]):
            writer.writerow([image["id"], *(names[i - 1] for i in image["classes"])])
        with atomic_write(self.root / TAGS_FILE) as file:
            file.write(text.getvalue().encode())

    def _write_lines(self, path: Path, lines: Iterable[str]) -> None:
        with atomic_write(path) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())


def summarize(index: CocoIndex, done: Sequence[Done], missing: Sequence[str]) -> dict[str, Any]:
    """What provenance and console report of a converted annotation file.

    Args:
        index: the annotation file.
        done: its images, all converted.
        missing: file names of the images that were left out.
    """

    def named(items: Iterable[Any]) -> dict[str, Any]:
        items = list(items)
        return {"number": len(items), "first": items[:NAMED_EXAMPLES]}

    return {
        "images": len(done),
        "images_with_a_label": sum(bool(d["classes"]) for d in done),
        "images_without_a_label": named(d["id"] for d in done if not d["classes"]),
        "images_missing": named(missing),
        "grayscale_images": named(d["id"] for d in done if d["gray"]),
        "annotations": sum(len(image.annotations) for image in index.images),
        "crowd_annotations": sum(d["crowds"] for d in done),
        "annotations_without_pixels": named(x for d in done for x in d["without_pixels"]),
        "annotations_of_unknown_images": index.num_strays,
        "links": {
            kind: sum(d["link"] == kind for d in done) for kind in ("symbolic link", "hard link")
        },
    }
