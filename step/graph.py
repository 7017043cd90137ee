"""The pipeline as data: what a step is, what it reads and writes, and which steps there are.

A module of a step is loaded for `--help` too: what loads torch is imported where the work begins.
"""

import functools
import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from misc.config import Config, ResultPath, config_class, paths_class
from misc.workspace import CURVE_HEADER, Identity, ImageFolder, WeightsFile
from step import STEPS
from step.common.plugged import Codes
from step.common.results import ImagesMade, Made, WeightsMade, maker_of
from voc12.picture_sizes import Size

if TYPE_CHECKING:
    from misc.training import Learning
    from step.run import Run


class Colours(Enum):
    """What the colours of a picture stand for; a photograph's for nothing."""

    CLASSES = "class ids"
    BOUNDARY_LABEL = "codes of boundary labels"
    HEAT = "0 to 1, dark violet to pale yellow"
    GRAY = "0 to 1, black to white"


class Tile(NamedTuple):
    """A picture on a contact sheet.

    Attributes:
        title: what stands above it.
        picture: uint8 RGB (h,w,3).
        colours: what its colours stand for; None for a photograph.
        values: class ids or codes whose colours it shows.
    """

    title: str
    picture: NDArray[np.uint8]
    colours: Colours | None = None
    values: Sequence[int] = ()


CURVE = ".curve.csv"  # what follows a network's name in the CSV of its training
Drawer = Callable[[str, NDArray[np.uint8]], list[Tile]]
"""Image id and photograph (H,W,3) -> what there is to show of that image."""


class Source(ABC):
    """Something that steps read: a part of the dataset, or what an earlier step wrote.

    Attributes:
        name: what messages call it.
        settings: settings that say how it is read; whoever reads it records them.
    """

    name: str
    settings: tuple[str, ...] = ()

    def shared(self, run: "Run") -> Identity | None:
        """What all images have in common of it; None if nothing."""
        return None

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        """Fingerprint of what is each image's own; empty if nothing is."""
        return {}

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """What is missing or wrong of it for these images, each with a remedy."""
        return []

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """What is odd about it for these images, but may be meant."""
        return []

    def path(self, run: "Run") -> Path | None:
        """Where a result that an earlier step may write lies; None for parts of the dataset."""
        return None

    def drawer(self, run: "Run") -> Drawer | None:
        """What draws it on contact sheets; None if it is not to be seen."""
        return None


@dataclass(frozen=True, eq=False)
class Artefact(Source):
    """What a step writes.

    Attributes:
        name: what messages call it.
        flag: the flag that names where it goes.
        help: a sentence for that flag.
        below_out_dir: where it goes by default.
        settings: settings that say how it is read or written.
    """

    name: str
    flag: str
    help: str
    below_out_dir: str
    settings: tuple[str, ...] = ()

    @abstractmethod
    def made(self, run: "Run") -> Made:
        """Its state in `run`: put there, made earlier, or to be made."""

    @abstractmethod
    def stored(self, run: "Run") -> ImageFolder | WeightsFile:
        """What it is on disk."""

    def path(self, run: "Run") -> Path:
        return run.config.path(self.flag)

    def shared(self, run: "Run") -> Identity | None:
        return self.made(run).shared

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        return self.made(run).own(ids)

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        return self.made(run).problems(ids)


@dataclass(frozen=True, eq=False)
class ImageFiles(Artefact):
    """Files of each image in one folder.

    Attributes:
        suffixes: what follows the image id in the files' names.
        image_bytes: (height, width) -> about how much disk one image takes.
        smaller: how to make them smaller, for the message about a full disk.
        codes: the values that their pixels may have, where these are codes.
        draw: folder, image id and photograph -> what a contact sheet shows of the image's files.
    """

    suffixes: tuple[str, ...] = (".png",)
    image_bytes: Callable[[Size], int] | None = None
    smaller: str = ""
    codes: Callable[["Run"], Codes] | None = None
    draw: Callable[[ImageFolder, str, NDArray[np.uint8]], list[Tile]] | None = None

    def bytes_of(self, run: "Run", image_id: str, size: Size) -> int:
        """About how much disk the files of an image of `size` (H,W) take."""
        assert self.image_bytes is not None
        return self.image_bytes(size)

    def made(self, run: "Run") -> ImagesMade:
        return ImagesMade(run, self)

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        return self.made(run).warnings(ids)

    def folder(self, run: "Run") -> ImageFolder:
        """The folder that they are in."""
        return ImageFolder(self.path(run), self.suffixes, f"--{self.flag}")

    def stored(self, run: "Run") -> ImageFolder:
        return self.folder(run)

    def drawer(self, run: "Run") -> Drawer | None:
        folder, draw = self.folder(run), self.draw
        if draw is None:
            return None
        return lambda image_id, image: draw(folder, image_id, image)


@dataclass(frozen=True, eq=False)
class Weights(Artefact):
    """The weights of a network."""

    settings: tuple[str, ...] = ("precision",)

    @property
    def remedy(self) -> str:
        """What to do about a file that cannot be used."""
        return f"Choose others with --{self.flag}, or delete the file and run {maker_of(self)}."

    def made(self, run: "Run") -> WeightsMade:
        return WeightsMade(run, self)

    @abstractmethod
    def load(self, run: "Run") -> object:
        """The network with these weights.

        Raises:
            UserError: if they cannot be read or do not fit.
        """

    def file(self, run: "Run") -> WeightsFile:
        """The file that they are in."""
        return WeightsFile(self.path(run), f"--{self.flag}", run.fingerprints.of)

    def stored(self, run: "Run") -> WeightsFile:
        return self.file(run)


@dataclass(frozen=True)
class Node:
    """A step in one variant of the run.

    Attributes:
        step: the step.
        run: the variant: its settings, and what it works on.
        variant: its name, "" for the run itself.
        ending: added to the step's name in the scores.
    """

    step: "Step"
    run: "Run"
    variant: str = ""
    ending: str = ""

    @property
    def key(self) -> str:
        """The step's name in the scores."""
        return self.step.name + self.ending

    @property
    def title(self) -> str:
        """The step's name in tables."""
        return f"{self.step.name} ({self.variant})" if self.variant else self.step.name


@dataclass(frozen=True)
class Work:
    """What a step gets to do its work.

    Attributes:
        run: dataset, lists, tags, inputs, machine.
        ids: the images that this process has to make files of.
        folder: where they go, or where a training keeps its files.
    """

    run: "Run"
    ids: list[str]
    folder: ImageFolder | None = None
    weights: WeightsFile | None = None

    @property
    def files(self) -> ImageFolder:
        """Where the files of images go."""
        assert self.folder is not None
        return self.folder

    @property
    def training(self) -> Path:
        """Folder for whatever a training keeps beside its weights."""
        assert self.weights is not None
        return self.weights.training


class Step(ABC):
    """A step: what it reads, what it writes, and how.

    Its settings are the keyword-only parameters of its `make`, and those that the sources it reads
    and writes name: they are what `make` gets, what the record of its result holds, and what makes
    that result stale when it changes.

    Attributes:
        name: that of its module.
        help: a few words.
        reads: what it reads; `sources` may depend on the run instead.
        writes: what it writes; None for steps that score or report.
        flags: dataclass of the settings that it adds.
        is_default: whether it runs unasked.
        comes_with: the setting that switches it on too, as it is typed; "" if there is none.
        in_demo: whether it runs in the demo.
        runs_with: the step that it belongs to: it is asked for with that, and has no flag.
        unrecorded: settings that `make` gets, but that its recorded result does not depend on.
        has_panels: whether contact sheets are drawn after it; a comparison has pictures of its own.
        is_only_for_others: not made where the steps that read it have nothing to do.
        ends_every_run: it runs after whatever --steps and --from name; `--NAME no` switches it off.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    reads: ClassVar[tuple[Source, ...]] = ()
    flags: ClassVar[type | None] = None
    is_default: ClassVar[bool] = True
    comes_with: ClassVar[str] = ""
    in_demo: ClassVar[bool] = True
    runs_with: ClassVar[str] = ""
    unrecorded: ClassVar[tuple[str, ...]] = ()
    has_panels: ClassVar[bool] = True
    is_only_for_others: ClassVar[bool] = False
    ends_every_run: ClassVar[bool] = False
    writes: Artefact | None = None
    make: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.name = cls.__module__.rpartition(".")[2]

    def runs_unasked(self, config: Config) -> bool:
        """Whether it runs with these settings where nobody names it."""
        return self.is_default

    def nodes(self, run: "Run") -> list[Node]:
        """What this step is in `run`: itself, or one node for each variant."""
        return [Node(self, run)]

    def sources(self, run: "Run") -> tuple[Source, ...]:
        """What it reads in `run`."""
        return self.reads

    def written(self, run: "Run") -> tuple[Artefact, ...]:
        """Everything that it writes in `run`."""
        return () if self.writes is None else (self.writes,)

    @abstractmethod
    def images(self, run: "Run") -> list[str]:
        """The images that it reads."""

    def why_off(self, run: "Run") -> str:
        """Why there is nothing for it in `run`; "" if there is."""
        return ""

    def problems(self, run: "Run", todo: Sequence[str]) -> list[str]:
        """What is wrong for this step alone, besides its sources, each with a remedy.

        Args:
            run: the run.
            todo: the images whose files it is to make.
        """
        return []

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """What is odd about its inputs, but may be meant; it stands in the plan and in the scores.

        Args:
            run: the run.
            ids: the images that it reads.
        """
        return [text for source in self.sources(run) for text in source.warnings(run, ids)]

    def describe(self, result: Mapping[str, Any]) -> str:
        """A result of its `make`, in one line."""
        return ""

    def place(self, run: "Run") -> Path | None:
        """Where a user looks for its results; None if they only serve other steps."""
        return None

    @classmethod
    def own_settings(cls) -> tuple[str, ...]:
        """Settings that `make` gets."""
        parameters = inspect.signature(cls.make).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def setting_names(self, run: "Run") -> list[str]:
        """All settings that its result depends on."""
        written = () if self.writes is None else self.writes.settings
        read = [name for source in self.sources(run) for name in source.settings]
        own = [name for name in self.own_settings() if name not in self.unrecorded]
        return list(dict.fromkeys([*own, *written, *read]))

    def settings(self, run: "Run") -> dict[str, Any]:
        """All settings that its result depends on, as JSON can hold them."""
        return {name: run.config.recorded(name) for name in self.setting_names(run)}

    def arguments(self, run: "Run") -> dict[str, Any]:
        """What `make` gets."""
        return {name: getattr(run.config, name) for name in self.own_settings()}


class ImageStep(Step):
    """A step that writes files of each image.

    `make(work, *, settings...)` yields once for each of `work.ids`, whose files it has written into
    `work.files`, in any order.
    """

    writes: ImageFiles
    make: ClassVar[Callable[..., Iterator[object]]]

    def notes(self, run: "Run") -> dict[str, Any]:
        """What its result says besides the number of images."""
        return {}


class TrainingStep(Step):
    """A step that trains a network.

    `make(work, *, settings...)` builds network, batches and optimiser; the runner trains.

    Attributes:
        few_updates: with fewer updates than these expect little: a warning says so.
        batch_flag: the setting that says how many images a batch has.
        epochs_flag: the setting that says how long it trains.
        tables: ending of each CSV that a training keeps beside its weights -> its first line.
    """

    tables: ClassVar[Mapping[str, str]] = {CURVE: CURVE_HEADER}

    is_only_for_others: ClassVar[bool] = True
    writes: Weights
    make: ClassVar[Callable[..., "Learning"]]
    few_updates: ClassVar[int] = 0
    batch_flag: ClassVar[str]
    epochs_flag: ClassVar[str]

    def updates(self, run: "Run", num_images: int) -> int:
        """How many updates of the weights a whole training on so many images takes."""
        from misc.training import BatchPlan

        size, epochs = run.setting(self.batch_flag), run.setting(self.epochs_flag)
        return BatchPlan(num_images, size, epochs, run.config.seed).num_steps

    def length(self, run: "Run", num_images: int) -> str:
        """How long a whole training is."""
        updates = self.updates(run, num_images)
        return f"{updates} update{'s' * (updates > 1)}"

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Those of its sources, which list stands in for train_aug, and a training too short."""
        told = super().warnings(run, ids) + run.train_notes
        if self.updates(run, len(ids)) < self.few_updates:
            preset = "Take --preset small, or more" if run.config.preset != "small" else "Take more"
            told.append(
                f"{self.name} has only {self.length(run, len(ids))} to learn from {len(ids)} "
                f"images; below {self.few_updates} expect little. {preset} epochs "
                f"(--{self.epochs_flag})."
            )
        return told

    def describe(self, result: Mapping[str, Any]) -> str:
        start = result.get("initialisation")
        return f"loss {result['loss']:.4f}" + (f", started from: {start}" if start else "")


class ScoringStep(Step):
    """A step whose result stands in the scores; it is done again whenever something changed.

    `make(work, *, settings...)` runs in the main process alone and returns the result. With
    `is_always_due` it runs in any case, and keeps by itself what is current.
    """

    is_always_due: ClassVar[bool] = False
    make: ClassVar[Callable[..., dict[str, Any]]]


class ShowingStep(Step):
    """A step that shows what the others made: always due, and nothing of it stands in the scores.

    `make(work, *, settings...)` runs in the main process alone and returns what `describe` tells.
    """

    has_panels: ClassVar[bool] = False
    make: ClassVar[Callable[..., dict[str, Any]]]


@functools.cache
def all_steps() -> tuple[Step, ...]:
    """Every step, in order."""
    found = []
    for name in STEPS:
        members = vars(importlib.import_module(f"step.{name}")).values()
        (kind,) = (
            each
            for each in members
            if isinstance(each, type) and issubclass(each, Step) and each.name == name
        )
        found.append(kind())
    return tuple(found)


def step_named(name: str) -> Step:
    """The step of that name."""
    return next(step for step in all_steps() if step.name == name)


@functools.cache
def all_artefacts() -> tuple[Artefact, ...]:
    """What steps write, in the order of the steps."""
    written = (step.writes for step in all_steps())
    return tuple({each.flag: each for each in written if each is not None}.values())


@functools.cache
def step_settings() -> tuple[type, ...]:
    """The dataclasses of settings that steps add, and the one of where results go."""
    paths = [ResultPath(each.flag, each.help, each.below_out_dir) for each in all_artefacts()]
    own = tuple(step.flags for step in all_steps() if step.flags is not None)
    return (*own, paths_class(paths))


@functools.cache
def full_config_class() -> type[Config]:
    """The class of configurations with the settings of all steps."""
    return config_class(step_settings())
