"""The state of results: put there by you, made by an earlier run, or to be made by this one."""

import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from misc.cam_files import CamFolder, Cams, read_cams
from misc.errors import UserError, some_images
from misc.images import image_size
from misc.workspace import Identity, Record, digest
from step.common.checks import misfits, problems_of, shorten, unsound_files
from voc12.picture_sizes import IMAGE, PictureSizes, sizes_of

if TYPE_CHECKING:
    from step.graph import Artefact, ImageFiles, Weights
    from step.run import Run

logger = logging.getLogger(__name__)

PUT_THERE = Identity.of_content("put there")
CamFile = Path | list[Path]
"""The files of one image's CAMs."""


class Planned(NamedTuple):
    """What a step of the plan is going to make.

    Attributes:
        step: its name.
        shared: what all images will be made from.
        images: what each will be made from besides; None where that cannot be told yet.
    """

    step: str
    shared: Identity
    images: Mapping[str, str] | None = None

    def covers(self, image_id: str) -> bool:
        """True if the image's files will be made."""
        return self.images is None or image_id in self.images


Ledger = dict[Path, Planned]
"""Place of a result -> what is going to be made there."""


class Made(ABC):
    """The state of one artefact of a run."""

    @property
    @abstractmethod
    def is_foreign(self) -> bool:
        """True if somebody else put it there: it is taken as it is."""

    @property
    @abstractmethod
    def shared(self) -> Identity | None:
        """What all images of it were, or will be, made from; None if there is nothing."""

    def own(self, ids: Sequence[str]) -> Mapping[str, str]:
        """What each image was, or will be, made from besides."""
        return {}

    @abstractmethod
    def problems(self, ids: Sequence[str]) -> list[str]:
        """What is missing or bad of it for these images, and not going to be made."""


def maker_of(artefact: "Artefact") -> str:
    """The step that a user runs to have an artefact made."""
    from step.graph import all_steps

    step = next(s for s in all_steps() if s.writes is not None and s.writes.flag == artefact.flag)
    return step.runs_with or step.name


class ImagesMade(Made):
    """The state of files of images."""

    def __init__(self, run: "Run", artefact: "ImageFiles") -> None:
        """Look at the artefact of this run; nothing is read yet."""
        self.run = run
        self.artefact = artefact
        self.folder = artefact.folder(run)
        self.planned = run.ledger.get(self.folder.path)

    @cached_property
    def is_foreign(self) -> bool:
        """True if somebody else filled the folder."""
        return self.folder.is_foreign()

    @cached_property
    def record(self) -> Record | None:
        """The record of what made the files that are there."""
        return self.folder.record()

    @property
    def shared(self) -> Identity | None:
        """What all images were, or will be, made from; a fixed one for files put there."""
        if self.planned is not None:
            return self.planned.shared
        if self.is_foreign:
            return PUT_THERE
        return None if self.record is None else self.record.identity()

    def own(self, ids: Sequence[str]) -> Mapping[str, str]:
        """What each image was, or will be, made from besides; of files put there, their content."""
        if self.planned is None and self.is_foreign:
            return self.contents(ids)
        record = self.record if self.planned is None else self.planned
        known = (record.images if record is not None else None) or {}
        # As in `contents`: what it follows from is one of the parts.
        return {image_id: known.get(image_id, "").replace(",", "+") for image_id in ids}

    def contents(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Fingerprint of what each image's files hold now."""
        suffixes = self.folder.suffixes
        paths = [self.folder.file(image_id, suffix) for image_id in ids for suffix in suffixes]
        found = self.run.fingerprints.of_all(paths, desc=f"fingerprints of {self.artefact.name}")
        count = len(suffixes)
        # Commas part what is told of an image: all its files are one of the parts.
        return {i: "+".join(found[k * count : (k + 1) * count]) for k, i in enumerate(ids)}

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` whose files are not there."""
        return self.folder.missing(ids)

    def mixture(self, ids: Sequence[str]) -> str:
        """What to say of a folder that somebody else filled, but not with all of `ids`."""
        missing = self.missing(ids)
        return (
            f"{self.folder.path} holds files that you put there, but lacks {some_images(missing)} "
            "of the lists. Add them, shorten the lists, or choose another "
            f"{self.folder.flag} to have all of them made."
        )

    def problems(self, ids: Sequence[str]) -> list[str]:
        wanted = [i for i in ids if self.planned is None or not self.planned.covers(i)]
        missing = self.missing(wanted)
        problems = [self._lack(missing)] if missing else []
        if self.is_foreign:
            problems += self._misfits(_without(wanted, missing))
        return shorten(problems, "files")

    def _lack(self, missing: Sequence[str]) -> str:
        return (
            f"{self.folder.path} lacks the files of {some_images(missing)}. "
            f"Run {maker_of(self.artefact)} for them, or choose another {self.folder.flag}."
        )

    def _misfits(self, ids: Sequence[str]) -> list[str]:
        remedy = f"Replace it, or choose another {self.folder.flag}."
        return [
            f"{problem} {remedy}"
            for suffix in self.folder.suffixes
            for _, problem in misfits(
                self.run.dataset,
                PictureSizes(functools.partial(self.folder.file, suffix=suffix)),
                ids,
            )
        ]


def _without(ids: Sequence[str], left_out: Sequence[str]) -> list[str]:
    out = set(left_out)
    return [image_id for image_id in ids if image_id not in out]


@dataclass(frozen=True)
class CamReader:
    """Reads CAMs of one dialect; worker processes get it.

    Attributes:
        num_classes: foreground classes of the dataset.
        cam_format: the dialect.
    """

    num_classes: int
    cam_format: str

    def __call__(self, file: CamFile, size: tuple[int, int], *parts: str) -> Cams:
        """The CAMs in `file` of an image of `size` (H,W); `parts` are read of them."""
        return read_cams(
            file, size, num_classes=self.num_classes, cam_format=self.cam_format, parts=parts
        )


class CamsMade(ImagesMade):
    """The state of the CAMs: ours, or files of any dialect that somebody put there."""

    @property
    def reader(self) -> CamReader:
        """What reads them."""
        return CamReader(self.run.dataset.num_classes, self.run.config.cam_format)

    @cached_property
    def listing(self) -> CamFolder | None:
        """The files that are there, of any dialect; None without the folder."""
        if not self.folder.path.is_dir():
            return None
        reader = self.reader
        return CamFolder(
            self.folder.path, num_classes=reader.num_classes, cam_format=reader.cam_format
        )

    @cached_property
    def is_foreign(self) -> bool:
        if self.folder.record_path.exists() or self.listing is None:
            return False
        return bool(self.listing.ids())

    def files(self, ids: Sequence[str]) -> dict[str, CamFile]:
        """Image id -> the file or files of its CAMs; no file for an image without classes.

        Raises:
            UserError: if one of `ids` has none.
        """
        listing = self.listing
        looked_up = {} if listing is None else {i: listing.find(i) for i in ids}
        files = {image_id: file for image_id, file in looked_up.items() if file is not None}
        if len(files) < len(ids):
            missing = next(image_id for image_id in ids if image_id not in files)
            raise UserError(f"No CAM for {missing} in {self.folder.path}. Run make_cam.")
        return files

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` for which no file of the chosen dialect is there.

        Where that dialect leaves out the files of images without classes, none is missing, and
        the log tells how many have none; but if all of several have none, the folder is not theirs.
        """
        listing = self.listing
        known = set() if listing is None else set(listing.ids())
        without = [image_id for image_id in ids if image_id not in known]
        if listing is None or not listing.absent_is_empty or len(without) == len(ids) > 1:
            return without
        if without:
            self._tell_of_empty_images(without, len(ids))
        return []

    def _tell_of_empty_images(self, without: Sequence[str], count: int) -> None:
        text = (
            f"{self.folder.path}: {len(without)} of {count} images (first: {without[0]}) have no "
            "<id>_<class>.png and are treated as images without classes. If the folder is "
            "incomplete, stop here and complete it."
        )
        if self.run.runtime.is_main:
            self.run.once(text, lambda: logger.warning("%s", text))

    def contents(self, ids: Sequence[str]) -> Mapping[str, str]:
        files = self.files(ids)
        as_lists = [[f] if isinstance(f, Path) else f for f in (files[i] for i in ids)]
        paths = [path for each in as_lists for path in each]
        found = iter(self.run.fingerprints.of_all(paths, desc="fingerprints of CAMs"))
        # The names tell the classes where each class has a file.
        return {
            image_id: digest([[path.name, next(found)] for path in each])
            for image_id, each in zip(ids, as_lists, strict=True)
        }

    def mixture(self, ids: Sequence[str]) -> str:
        return super().mixture(ids) + self._hint()

    def _lack(self, missing: Sequence[str]) -> str:
        return (
            f"{self.folder.path} lacks the CAMs of {some_images(missing)}. "
            f"Put them there, run make_cam, or choose another {self.folder.flag}.{self._hint()}"
        )

    def _hint(self) -> str:
        """What to add where CAMs are missing in a folder of PNGs that nobody named as such."""
        listing = self.listing
        if self.reader.cam_format != "auto" or listing is None or not listing.holds_pngs:
            return ""
        return " If these images show no class, pass --cam_format oaa_png."

    def _misfits(self, ids: Sequence[str]) -> list[str]:
        """What reading every file brings to light; what was sound before is not read again."""
        sizes, reader = sizes_of(self.run.dataset, IMAGE), self.reader
        files, contents = self.files(ids), self.contents(ids)
        known = {i: [contents[i], sizes[i], reader.cam_format, reader.num_classes] for i in ids}
        items = {image_id: (reader, files[image_id], sizes.path_of(image_id)) for image_id in ids}
        problems = unsound_files(self.run, _read_cams, items, known, "checking CAMs")
        return shorten(list(problems.values()), "CAMs")


def _read_cams(item: tuple[CamReader, CamFile, Path]) -> None:
    read, file, image_path = item
    read(file, image_size(image_path), "cam", "high_res")


class WeightsMade(Made):
    """The state of the weights of a network."""

    def __init__(self, run: "Run", artefact: "Weights") -> None:
        """Look at the artefact of this run; nothing is read yet."""
        self.run, self.artefact = run, artefact
        self.file = artefact.file(run)
        self.planned = run.ledger.get(self.file.path)

    @cached_property
    def is_foreign(self) -> bool:
        return self.file.is_foreign()

    @property
    def shared(self) -> Identity | None:
        """What they were, or will be, trained from; of weights put there, their content."""
        return self.file.identity() if self.planned is None else self.planned.shared

    def problems(self, ids: Sequence[str]) -> list[str]:
        if self.planned is not None:
            return []
        maker, flag = maker_of(self.artefact), self.file.flag
        if not self.file.exists():
            return [f"No weights {self.file.path}. Run {maker}, or choose others with {flag}."]
        if not self.is_foreign:
            return []
        key = ("weights", self.file.path, self.file.seal())
        found = self.run.once(key, lambda: problems_of(lambda: self.artefact.load(self.run)))
        remedy = f"Choose others with {flag}, or delete the file and run {maker}."
        return [f"{problem} {remedy}" for problem in found]
