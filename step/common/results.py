"""The state of results: put there by you, made by an earlier run, or to be made by this one."""

import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from misc.cam_files import CamFolder, Cams, class_id_of, compare_with_tags, read_cams
from misc.errors import UserError, some_images
from misc.images import image_size
from misc.workspace import Identity, Record, digest
from step.common.checks import look_at_files, misfits, problems_of, shorten
from step.common.plugged import CodedPictures, Codes
from voc12.picture_sizes import IMAGE, PictureSizes, sizes_of

if TYPE_CHECKING:
    from step.artefacts import CamFiles
    from step.graph import Artefact, ImageFiles, Weights
    from step.run import Run

logger = logging.getLogger(__name__)

PUT_THERE = Identity.of_content("put there")
PARTS = ("cam", "high_res")  # of CAMs
MOST_MAY_DISAGREE = 0.5
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


@dataclass(frozen=True)
class _Found:
    """What a look at files brings to light: what is wrong, and what may be meant."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


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

    def not_planned(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` whose files no step of this run is going to make."""
        return [i for i in ids if self.planned is None or not self.planned.covers(i)]

    def mixture(self, ids: Sequence[str]) -> str:
        """What to say of a folder that somebody else filled, but not with all of `ids`."""
        missing = self.missing(ids)
        return (
            f"{self.folder.path} holds files that you put there, but lacks {some_images(missing)} "
            "of the lists. Add them, shorten the lists, or choose another "
            f"{self.folder.flag} to have all of them made."
        )

    def problems(self, ids: Sequence[str]) -> list[str]:
        wanted = self.not_planned(ids)
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
        problems = [
            f"{problem} {remedy}"
            for suffix in self.folder.suffixes
            for _, problem in misfits(
                self.run.dataset,
                PictureSizes(functools.partial(self.folder.file, suffix=suffix)),
                ids,
            )
        ]
        if problems or self.artefact.codes is None:
            return problems
        return self._coded(ids, self.artefact.codes).problems()

    def warnings(self, ids: Sequence[str]) -> list[str]:
        """What is odd about files that somebody put there for these images, but may be meant."""
        if not self.is_foreign:
            return []
        wanted = self.not_planned(ids)
        return self._oddities(_without(wanted, self.missing(wanted)))

    def _oddities(self, ids: Sequence[str]) -> list[str]:
        if self.artefact.codes is None:
            return []
        return self._coded(ids, self.artefact.codes).warnings()

    def _coded(self, ids: Sequence[str], codes_of: Callable[["Run"], Codes]) -> CodedPictures:
        files = {i: [self.folder.file(i, suffix) for suffix in self.folder.suffixes] for i in ids}
        codes = codes_of(self.run)
        return CodedPictures(self.run, files, self.contents(ids), codes, self.folder.flag)


def _without(ids: Sequence[str], left_out: Sequence[str]) -> list[str]:
    out = set(left_out)
    return [image_id for image_id in ids if image_id not in out]


@dataclass(frozen=True)
class CamReader:
    """Reads CAMs of one dialect; worker processes get it.

    Attributes:
        num_classes: foreground classes of the dataset.
        cam_format: the dialect.
        cam_ids: how it numbers the classes.
    """

    num_classes: int
    cam_format: str
    cam_ids: str

    def __call__(self, file: CamFile, size: tuple[int, int], *parts: str) -> Cams:
        """The CAMs in `file` of an image of `size` (H,W); `parts` are read of them."""
        return read_cams(
            file,
            size,
            num_classes=self.num_classes,
            cam_format=self.cam_format,
            cam_ids=self.cam_ids,
            parts=parts,
        )


class CamsMade(ImagesMade):
    """The state of the CAMs: ours, or files of any dialect that somebody put there."""

    artefact: "CamFiles"

    @property
    def reader(self) -> CamReader:
        """What reads them."""
        return self.artefact.reader(self.run, is_foreign=self.is_foreign)

    @cached_property
    def listing(self) -> CamFolder | None:
        """The files that are there, of any dialect; None without the folder."""
        if not self.folder.path.is_dir():
            return None
        any_numbering = self.artefact.reader(self.run, is_foreign=False)
        return CamFolder(
            self.folder.path,
            num_classes=any_numbering.num_classes,
            cam_format=any_numbering.cam_format,
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
            what = self.artefact.name.removeprefix("the ")
            raise UserError(
                f"No {what} of {missing} in {self.folder.path}. Run {maker_of(self.artefact)}."
            )
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
        found = iter(
            self.run.fingerprints.of_all(paths, desc=f"fingerprints of {self.artefact.name}")
        )
        # The names tell the classes where each class has a file.
        return {
            image_id: digest([[path.name, next(found)] for path in each])
            for image_id, each in zip(ids, as_lists, strict=True)
        }

    def mixture(self, ids: Sequence[str]) -> str:
        return super().mixture(ids) + self._hint()

    def _lack(self, missing: Sequence[str]) -> str:
        return (
            f"{self.folder.path} lacks {self.artefact.name} of {some_images(missing)}. Put them "
            f"there, run {maker_of(self.artefact)}, or choose another {self.folder.flag}."
            f"{self._hint()}"
        )

    def _hint(self) -> str:
        """What to add where CAMs are missing in a folder of PNGs that nobody named as such."""
        listing = self.listing
        if self.reader.cam_format != "auto" or listing is None or not listing.holds_pngs:
            return ""
        return " If these images show no class, pass --cam_format oaa_png."

    def _misfits(self, ids: Sequence[str]) -> list[str]:
        """What reading every file brings to light; what was sound before is not read again."""
        self._check_cam_ids()
        problems, classes = self._look(ids, *PARTS)
        found = shorten([problems[i] for i in ids if i in problems], "CAMs")
        return found + self._numbering(classes).problems

    def _oddities(self, ids: Sequence[str]) -> list[str]:
        return self._numbering(self._look(ids)[1]).warnings

    def misread(self, ids: Sequence[str]) -> list[str]:
        """What format and classes alone bring to light, where maps are judged as they are read."""
        if not self.is_foreign:
            return []
        self._check_cam_ids()
        problems, classes = self._look(ids)
        found = shorten([problems[i] for i in ids if i in problems], "CAMs")
        return found + self._numbering(classes).problems

    def _check_cam_ids(self) -> None:
        """Raise once, not for each file, if the numbering is not one of the dataset's classes."""
        class_id_of(self.reader.cam_ids, self.reader.num_classes)

    def _look(self, ids: Sequence[str], *parts: str) -> tuple[dict[str, str], dict[str, list[int]]]:
        """Image id -> what is wrong with these parts of its CAMs; of the others, the class ids."""
        sizes, reader = sizes_of(self.run.dataset, IMAGE), self.reader
        files, contents = self.files(ids), self.contents(ids)
        read_as = [reader.cam_format, reader.cam_ids, reader.num_classes, *parts]
        known = {i: [contents[i], sizes[i], *read_as] for i in ids}
        items = {i: (reader, parts, files[i], sizes.path_of(i)) for i in ids}
        problems, notes = look_at_files(self.run, _look_at_cams, items, known, "checking CAMs")
        classes = {i: [int(word) for word in note.split(",") if word] for i, note in notes.items()}
        return problems, classes

    def _numbering(self, classes: Mapping[str, Sequence[int]]) -> "_Found":
        """What to say where the files have other classes than the images' tags.

        It is a problem if another numbering would explain it, or if most contradict their tags,
        and a warning otherwise.

        Args:
            classes: image id -> class ids of its CAMs.
        """
        run, reader = self.run, self.reader
        if problems_of(lambda: run.tags):
            return _Found()  # steps that need tags say what is wrong with them
        tags = {i: run.class_ids(i).tolist() for i in classes if i in run.tags}
        agreement = compare_with_tags(classes, tags, reader.num_classes, reader.cam_ids)
        empty = [i for i in tags if tags[i] and not classes[i]]
        warnings = []
        if len(empty) > MOST_MAY_DISAGREE * len(tags):
            warnings = [
                f"{self.folder.path}: the CAMs of {some_images(empty)} of {len(tags)} have no "
                "class, though their tags name one: they count as background everywhere."
            ]
        if not agreement.strange:
            return _Found(warnings=warnings)
        first, names = agreement.strange[0], run.dataset.class_names
        extra = [names[c - 1] for c in classes[first] if c not in tags[first]]
        text = (
            f"{self.folder.path}: the CAMs of {len(agreement.strange)} of {agreement.images} "
            f"images have classes that their tags lack (first: {first}, {', '.join(extra)})."
        )
        if agreement.explained_by is not None:
            cause = agreement.explained_by
            return _Found([f"{text} They look {cause.looks}. {cause.remedy}"])
        if agreement.contradicting > MOST_MAY_DISAGREE * agreement.images:
            return _Found(
                [
                    f"{text} Most of them lack what their tags name, too: they are CAMs of other "
                    "images, or number the classes in another order. Check the folder, --tags_from "
                    "and classes.txt."
                ]
            )
        return _Found(warnings=[*warnings, text])


def _look_at_cams(item: tuple[CamReader, tuple[str, ...], CamFile, Path]) -> str:
    """The class ids, after reading these parts of the CAMs of an image."""
    read, parts, file, image_path = item
    return ",".join(map(str, read(file, image_size(image_path), *parts).class_ids.tolist()))


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
        # Ours are tried too: they may be of another network than this run wants.
        key = ("weights", self.artefact.flag, self.file.path, self.file.seal())
        return self.run.once(key, lambda: problems_of(lambda: self.artefact.load(self.run)))
