"""What the segmentation network's steps write, for each seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from misc.workspace import Identity, ImageFolder
from step.artefacts import CRF_PNG, FilesOf, draw_masks, label_png_bytes
from step.common.plugged import codes_of_masks
from step.graph import ImageFiles, Source, Weights
from step.seg.notes import Notes

if TYPE_CHECKING:
    from step.run import Run

LAST, BEST = "last", "best"


def _ending(run: "Run") -> str:
    """Added to names where the network is trained with several seeds."""
    return f"_seed{run.config.seed}" if run.setting("seg_seeds") else ""


@dataclass(frozen=True, eq=False)
class SegWeights(Weights):
    """Weights after the last update."""

    def load(self, run: "Run") -> object:
        from step.common.networks import trained_segmentation_network

        return trained_segmentation_network(run, run.setting("seg_backbone"), self)

    def path(self, run: "Run") -> Path:
        path = super().path(run)
        return path.with_name(f"{path.stem}{_ending(run)}{path.suffix}")


@dataclass(frozen=True, eq=False)
class BestSegWeights(SegWeights):
    """Weights that scored best on val during the training."""

    def path(self, run: "Run") -> Path:
        path = super().path(run)
        return path.with_name(f"{path.stem}_best{path.suffix}")


@dataclass(frozen=True, eq=False)
class SegMasks(ImageFiles):
    """Masks that the network makes of a split, by one of its checkpoints."""

    checkpoint: str = LAST

    def path(self, run: "Run") -> Path:
        split = Path(run.setting("make_seg_split")).stem
        return super().path(run) / split / f"{self.checkpoint}{_ending(run)}"

    def folder(self, run: "Run") -> ImageFolder:
        count = len(self.suffixes) if run.setting("seg_crf") else 1
        made, further = self.suffixes[:count], self.suffixes[count:]
        return ImageFolder(self.path(run), made, f"--{self.flag}", further)


_WEIGHTS = ("seg_weights_name", "weights of the segmentation network", "weights/seg.pth")
SEG_WEIGHTS = SegWeights("the segmentation network's weights", *_WEIGHTS)
WEIGHTS = {LAST: SEG_WEIGHTS, BEST: BestSegWeights("the best weights on val", *_WEIGHTS)}
MASKS = {
    checkpoint: SegMasks(
        f"the masks of the {checkpoint} checkpoint", "seg_out_dir",
        "masks of the segmentation network", "seg", suffixes=(".png", CRF_PNG),
        image_bytes=lambda size: 2 * label_png_bytes(size), checkpoint=checkpoint,
        codes=lambda run: codes_of_masks(run.dataset.num_classes),
        draw=lambda *item: draw_masks("DeepLab-v2", *item),
    )
    for checkpoint in (LAST, BEST)
}  # fmt: skip


def notes_path(run: "Run") -> Path:
    """Where a training's notes lie once it has ended."""
    path = SEG_WEIGHTS.path(run)
    return path.with_name(f"{path.name}.notes.json")


def notes_of(run: "Run") -> Notes:
    """A training's notes; those of an unknown one where somebody else put the weights there."""
    return Notes() if SEG_WEIGHTS.file(run).is_foreign() else Notes.read(notes_path(run))


def seeds_of(run: "Run") -> list["Run"]:
    """The run with each of `--seg_seeds`, or as it is."""
    return [run.variant(seed=seed) for seed in run.setting("seg_seeds")] or [run]


def has_best(run: "Run") -> bool:
    """True if best weights were kept, or will be, by the training that makes the last ones."""
    path = WEIGHTS[BEST].path(run)
    if SEG_WEIGHTS.path(run) in run.ledger:
        return path in run.ledger
    return path.is_file() and not SEG_WEIGHTS.file(run).is_foreign()


class Variant(NamedTuple):
    """One checkpoint of the training with one seed."""

    run: "Run"
    checkpoint: str

    @property
    def name(self) -> str:
        """Name of the folder of its masks."""
        return MASKS[self.checkpoint].path(self.run).name

    @property
    def folder(self) -> ImageFolder:
        """Where its masks lie."""
        return MASKS[self.checkpoint].folder(self.run)


def variants_of(run: "Run") -> list[Variant]:
    """The last checkpoint of every seed and, where one is kept, the best beside it."""
    return [
        Variant(of_seed, checkpoint)
        for of_seed in seeds_of(run)
        for checkpoint in (LAST, BEST)
        if checkpoint == LAST or has_best(of_seed)
    ]


@dataclass(frozen=True)
class VariantMasks(Source):
    """The masks of one variant as they are now, and the notes of its training."""

    variant: Variant

    @property
    def name(self) -> str:  # type: ignore[override]
        """What messages call them."""
        return f"the masks {self.variant.name}"

    def path(self, run: "Run") -> Path:
        return self.variant.folder.path

    def shared(self, run: "Run") -> Identity:
        """The notes."""
        return Identity.of_content(run.fingerprints.of(notes_path(self.variant.run)))

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        """Content of each image's masks; what they will be made from where they are to come."""
        return FilesOf(MASKS[self.variant.checkpoint]).own(self.variant.run, ids)

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        return MASKS[self.variant.checkpoint].problems(self.variant.run, ids)
