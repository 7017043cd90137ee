"""What the three steps of the segmentation network share: its trainings and where things lie."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misc.errors import UserError
from misc.workspace import (
    ArtefactFolder,
    Record,
    WeightsFile,
    content_digest,
    read_json,
    stat_digest,
    write_json,
)
from net.segmentation_init import FLAG, initialise
from step.context import Context
from step.networks import build_segmentation_network
from step.preflight import problems_of
from voc12.files import VocDataset
from voc12.lists import CRF_SUFFIX, split_ids
from voc12.segmentation_crops import mask_paths

LAST, BEST = "last", "best"
INIT_WORDS = ("imagenet", "none")


@dataclass
class Notes:
    """What a training says of itself: how it started, and mIoU on val after so many updates.

    Attributes:
        initialisation: what the network started from, in words.
        labels: the masks that it learnt from, in words.
        updates: how many there were so far.
        validation: `updates` and `miou` of each look at val, in their order.
        best: that of the weights kept as the best: the earliest with the highest mIoU.
    """

    initialisation: str = "unknown"
    labels: str = "unknown"
    updates: int = 0
    validation: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None

    @staticmethod
    def read(path: Path) -> "Notes":
        """The notes at `path`; those of an unknown training if there are none."""
        return Notes(**read_json(path)) if path.exists() else Notes()

    def write(self, path: Path) -> None:
        """Write the notes as JSON."""
        write_json(path, vars(self))


@dataclass(frozen=True)
class Training:
    """One training of the segmentation network: its seed and its files."""

    seed: int
    weights: WeightsFile

    @property
    def best_weights(self) -> WeightsFile:
        """Weights that scored best on val during the training."""
        path = self.weights.path
        name = f"{path.stem}_best{path.suffix}"
        return WeightsFile(path.with_name(name), self.weights.flag)

    @property
    def notes_path(self) -> Path:
        """Where the training's notes lie."""
        return self.weights.path.with_name(f"{self.weights.path.name}.notes.json")

    def has_best(self) -> bool:
        """True if best weights were kept by the training that made the last ones."""
        return self.best_weights.exists() and not self.weights.is_foreign()

    def notes(self) -> Notes:
        """Its notes; those of an unknown training where somebody else put the weights there."""
        return Notes() if self.weights.is_foreign() else Notes.read(self.notes_path)

    def demand_room_for_best(self) -> None:
        """Refuse to train where somebody else's file has the name that the best weights get.

        The record beside the last weights speaks for both files.

        Raises:
            UserError: if the file is there without such a record.
        """
        best, record = self.best_weights.path, self.weights.record_path
        if best.exists() and not record.exists():
            raise UserError(
                f"{best} would get the weights that are best on val, but it is there and, without "
                f"{record}, not known as made here: it is not overwritten. Move it away, or name "
                f"other weights with {self.weights.flag}."
            )


@dataclass(frozen=True)
class Variant:
    """One checkpoint of one training, and the masks that it makes."""

    training: Training
    checkpoint: str
    weights: WeightsFile
    masks: ArtefactFolder

    @property
    def name(self) -> str:
        """Name of the folder of its masks."""
        return self.masks.folder.name


def trainings(context: Context) -> list[Training]:
    """One training for each of `--seg_seeds`, or the one of `--seed`."""
    path = context.config.path("seg_weights_name")
    flag = "--seg_weights_name"
    if not context.config.seg_seeds:
        return [Training(context.config.seed, WeightsFile(path, flag))]
    return [
        Training(seed, WeightsFile(path.with_name(f"{path.stem}_seed{seed}{path.suffix}"), flag))
        for seed in context.config.seg_seeds
    ]


def variants(context: Context) -> list[Variant]:
    """The last checkpoint of every training and, where one was kept, the best beside it."""
    found = []
    for training in trainings(context):
        found.append(_variant(context, training, LAST, training.weights))
        if training.has_best():
            found.append(_variant(context, training, BEST, training.best_weights))
    return found


def _variant(
    context: Context, training: Training, checkpoint: str, weights: WeightsFile
) -> Variant:
    config = context.config
    ending = f"_seed{training.seed}" if config.seg_seeds else ""
    split = Path(config.make_seg_split).stem
    folder = config.path("seg_out_dir") / split / f"{checkpoint}{ending}"
    suffixes = [".png", f"{CRF_SUFFIX}.png"] if config.seg_crf else [".png"]
    return Variant(training, checkpoint, weights, ArtefactFolder(folder, suffixes, "--seg_out_dir"))


def segmented_ids(context: Context) -> list[str]:
    """Images that the network segments."""
    return split_ids(context.dataset, context.config.make_seg_split)


def scored_mask_path(dataset: VocDataset, image_id: str) -> Path:
    """The exact mask that scores go by; that of the augmented set for images without one."""
    path = dataset.mask_path(image_id)
    return path if path.exists() else dataset.augmented_mask_path(image_id)


def label_paths(context: Context, ids: Sequence[str]) -> dict[str, Path]:
    """The masks that the network learns from.

    Raises:
        UserError: if one of them is missing.
    """
    labels = context.config.seg_label_dir
    if labels == "gt":
        return {image_id: context.dataset.augmented_mask_path(image_id) for image_id in ids}
    if labels == "pseudo":
        folder = context.pseudo_masks.folder
        remedy = f"Run make_sem_seg with --infer_list {context.config.train_aug_list}"
    else:
        folder = Path(labels)
        remedy = "Put them there"
    try:
        return mask_paths(folder, ids)
    except UserError as error:
        raise UserError(f"{error} {remedy}, or name another --seg_label_dir.") from None


def label_digest(context: Context, paths: dict[str, Path]) -> str:
    """Fingerprint of the masks that the network learns from."""
    record = None
    if context.config.seg_label_dir == "pseudo":
        record = Record.read(context.pseudo_masks.record_path)
    return stat_digest(paths.values()) if record is None else record.digest()


def describe_labels(context: Context) -> str:
    """The masks that the network learns from, in words."""
    words = {"gt": "the exact masks", "pseudo": f"pseudo masks, {context.pseudo_masks.folder}"}
    return words.get(context.config.seg_label_dir, context.config.seg_label_dir)


def init_path(context: Context) -> str:
    """`--seg_init` as a word or the path of a file.

    Raises:
        UserError: if it is a file that is not there.
    """
    init = context.config.seg_init
    path = str(context.cam_weights.path) if init == "cam" else init
    if path not in INIT_WORDS and not Path(path).is_file():
        raise UserError(
            f"--seg_init {init}: there is no file {path}. Pass a file, imagenet, none, or cam "
            "after train_cam."
        )
    return path


def init_digest(context: Context) -> str:
    """Fingerprint of what the network starts from.

    Raises:
        UserError: if it is a file that is not there.
    """
    init = init_path(context)
    return init if init in INIT_WORDS else content_digest(Path(init))


def init_problems(context: Context) -> list[str]:
    """What is wrong with `--seg_init`: it is tried on a network that is then thrown away.

    The training itself may come hours later. ImageNet's weights are downloaded here.
    """
    config, classifier = context.config, context.cam_weights
    is_cam = config.seg_init == "cam"
    stays = classifier.exists() and (not config.overwrite or classifier.is_foreign())
    is_to_come = is_cam and "train_cam" in context.requested and not stays
    problems = [] if is_to_come else problems_of(lambda: _try_init(context))
    if is_cam and config.seg_backbone != config.backbone and (is_to_come or problems):
        differ = (
            f"--seg_init cam starts from the classifier, whose --backbone is {config.backbone}, "
            f"but --seg_backbone is {config.seg_backbone}. Let both be the same, or pass "
            "--seg_init imagenet, none or a file."
        )
        return [differ, *problems]
    return problems


def _try_init(context: Context) -> None:
    init = init_path(context)
    try:
        initialise(build_segmentation_network(context), init)
    except UserError as error:
        raise UserError(f"{FLAG} {context.config.seg_init}: {error}") from None
