"""What steps read of the dataset, and the results that several steps share.

A result that no other step reads is declared in the module of the step that writes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from misc.cam_files import CONTIGUOUS, cam_file_bytes
from misc.config import SALIENCY_FLAG, Config
from misc.errors import UserError, some_images
from misc.images import read_mask
from misc.saliency import read_saliency
from misc.visualize import (
    colour_boundary_label,
    colour_gray,
    colour_mask,
    overlay_heat,
    overlay_mask,
)
from misc.workspace import Identity, ImageFolder, digest
from step.common.checks import (
    fit_problems,
    image_problems,
    look_at_pictures,
    misfits,
    problems_of,
    shorten,
)
from step.common.plugged import LABEL_CODES, Codes, codes_of_masks, masks_for_saliency
from step.common.results import CamReader, CamsMade, ImagesMade
from step.graph import Colours, Drawer, ImageFiles, Source, Tile, Weights
from voc12.decoded import (
    BLACK,
    are_soft,
    look_at_mask,
    look_at_photograph,
    look_at_saliency,
    notes_on_photographs,
)
from voc12.files import CRF_SUFFIX, VocDataset
from voc12.image_labels import few_classes_note, no_classes_problem
from voc12.picture_sizes import IMAGE, MASK, SALIENCY, PictureSizes, Size, sizes_of

if TYPE_CHECKING:
    from step.run import Run

Image = NDArray[np.uint8]

CRF_PNG = f"{CRF_SUFFIX}.png"
CLASSES_PER_IMAGE = 3  # COCO's average; VOC's is 1.5
BLOCK_BYTES = 4096  # a small file takes this much of most disks
LABEL_BYTES_A_PIXEL = 0.06  # of a PNG of labels, as measured on the drawn images
SALIENCY_BYTES_A_PIXEL = 0.2  # of a PNG of a network's map; CSNet's of photographs: 0.07 to 0.21


def label_png_bytes(size: Size) -> int:
    """About how much disk a PNG of labels of `size` (H,W) takes."""
    return max(int(size[0] * size[1] * LABEL_BYTES_A_PIXEL), BLOCK_BYTES)


def saliency_png_bytes(size: Size) -> int:
    """About how much disk a PNG of a soft saliency map of `size` (H,W) takes."""
    return max(int(size[0] * size[1] * SALIENCY_BYTES_A_PIXEL), BLOCK_BYTES)


class Photographs(Source):
    """The photographs themselves."""

    name = "the photographs"

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        return run.content_of(self.name, ids, run.dataset.image_path)

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        damaged, _ = self._look(run, ids)
        return image_problems(run.dataset, ids) + shorten(list(damaged.values()), "images")

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Photographs that viewers rotate, and those that seem to be cut off."""
        _, looks = self._look(run, ids)
        return notes_on_photographs(looks)

    def _look(self, run: "Run", ids: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """What is wrong with these photographs, and what is worth knowing of the others."""
        sizes = sizes_of(run.dataset, IMAGE)
        sound = [i for i in ids if not isinstance(sizes[i], str)]
        paths = {i: sizes.path_of(i) for i in sound}
        contents = self.own(run, sound)
        return look_at_pictures(run, look_at_photograph, paths, contents, self.name)

    def drawer(self, run: "Run") -> Drawer:
        return lambda image_id, image: [Tile(image_id, image)]


class ClassNames(Source):
    """The names of the classes: their order is that of the class ids."""

    name = "the class names"

    def shared(self, run: "Run") -> Identity:
        return Identity.of_content(digest(run.dataset.class_names))


class Tags(Source):
    """The image tags, by the names of the classes."""

    name = "the tags"

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        """The names that each image's tags say."""
        tags, names = run.tags, run.dataset.class_names
        known: dict[bytes, str] = {}  # many images have the same tags

        def token(shown: NDArray[np.float32]) -> str:
            key = shown.tobytes()
            if key not in known:
                known[key] = digest([names[k] for k in np.flatnonzero(shown).tolist()])
            return known[key]

        return {image_id: token(tags[image_id]) for image_id in ids}

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        texts = problems_of(lambda: run.tags)
        if not texts and not any(shown.any() for shown in run.tags.values()):
            texts = no_classes_problem(run.tags, run.train_ids, run.config.train_aug_list)
        return [line for text in texts for line in text.splitlines()]

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Many images without a class."""
        note = few_classes_note(run.tags, ids)
        return [note] if note else []


class SaliencyMaps(Source):
    """The saliency maps: yours, or made here; with `--saliency none` there are none.

    Maps that `make_saliency` made are known by what they were made from, wherever they are read.
    """

    name = "the saliency maps"
    settings = ("saliency",)

    def made(self, run: "Run") -> ImagesMade | None:
        """The state of the maps that this run reads; None without saliency."""
        root = run.dataset.saliency_root
        return None if root is None else MADE_SALIENCY.made(run.variant(**{SALIENCY_FLAG: root}))

    def shared(self, run: "Run") -> Identity | None:
        made = self.made(run)
        return None if made is None or self._is_yours(made) else made.shared

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        made = self.made(run)
        if made is None:
            return {}
        return self.contents(run, ids) if self._is_yours(made) else made.own(ids)

    def contents(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        """Fingerprint of each image's map as it is now, whoever made it."""
        if run.dataset.saliency_root is None:
            return {}
        return run.content_of(self.name, ids, run.dataset.saliency_path)

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        dataset, made = run.dataset, self.made(run)
        if made is None:
            return []
        if run.config.saliency == "make":
            return made.problems(ids)
        remedy = (
            "Put maps of the images' sizes there, pass --sal_root, have maps made by --saliency "
            "make, or run with --saliency none."
        )
        there, maps = made.not_planned(ids), sizes_of(dataset, SALIENCY)
        problems = fit_problems(dataset, maps, there, "Saliency map", remedy)
        damaged, _ = self._look(run, there)
        problems += shorten(list(damaged.values()), "maps")
        return problems or (masks_for_saliency(run, there) if self._is_yours(made) else [])

    def softness(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """What to say where hardly a pixel of maps of yours is 0, and 0 alone is background."""
        made = self.made(run)
        if made is None or not self._is_yours(made) or run.setting("sal_bg_thres") > 0:
            return []
        _, looks = self._look(run, made.not_planned(ids))
        if not are_soft(looks.values()):
            return []
        return [
            "The saliency maps are soft: hardly a pixel is exactly 0, so hardly any counts as "
            "background. Pass --sal_bg_thres 0.1 unless you mean that."
        ]

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Whether most maps are black, as those of a network that failed."""
        made = self.made(run)
        if made is None or run.config.saliency == "make":
            return []
        there = made.not_planned(ids)
        _, notes = self._look(run, there)
        black = [image_id for image_id, note in notes.items() if note == BLACK]
        if 2 * len(black) <= len(there):
            return []
        return [
            f"{run.dataset.saliency_root}: the saliency maps of {some_images(black)} of "
            f"{len(there)} are black, so nothing in them is salient. Are they what you meant?"
        ]

    def _look(self, run: "Run", ids: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """What is wrong with these maps, and what is worth knowing of the others."""
        paths = _fitting(run.dataset, sizes_of(run.dataset, SALIENCY), ids)
        contents = self.contents(run, list(paths))
        return look_at_pictures(run, look_at_saliency, paths, contents, self.name)

    def path(self, run: "Run") -> Path | None:
        return run.dataset.saliency_root

    def drawer(self, run: "Run") -> Drawer | None:
        dataset = run.dataset
        if dataset.saliency_root in (None, MADE_SALIENCY.path(run)):
            return None  # or it draws itself
        return lambda image_id, image: _saliency_tiles("saliency", dataset.saliency_path(image_id))

    @staticmethod
    def _is_yours(made: ImagesMade) -> bool:
        return made.planned is None and made.record is None


def _fitting(dataset: VocDataset, maps: PictureSizes, ids: Sequence[str]) -> dict[str, Path]:
    """Image id -> its map, of those whose map is sound as far as its header tells."""
    unfit = {image_id for image_id, _ in misfits(dataset, maps, ids)}
    return {i: maps.path_of(i) for i in ids if i not in unfit}


def mask_problems(run: "Run", paths: Mapping[str, Path], contents: Mapping[str, str]) -> list[str]:
    """Masks that cannot be decoded, or that show classes which the dataset has not.

    Args:
        run: the run.
        paths: image id -> mask.
        contents: image id -> fingerprint of its content.
    """
    number = run.dataset.num_classes
    look = partial(look_at_mask, num_classes=number)
    damaged, _ = look_at_pictures(run, look, paths, contents, "masks", number)
    return shorten(list(damaged.values()), "masks")


@dataclass(frozen=True)
class ExactMasks(Source):
    """Exact masks: what is scored against, or learnt from for the upper bound.

    Attributes:
        remedy: what helps where they are missing, besides putting them there.
        with_augmented: those of the augmented set (SBD) stand in where the exact one is missing.
        prefers_augmented: they come first.
    """

    remedy: str
    with_augmented: bool = False
    prefers_augmented: bool = False
    name: str = "the exact masks"

    def mask_path(self, run: "Run", image_id: str) -> Path:
        """Where the mask of an image lies."""
        if self.prefers_augmented:
            return run.dataset.augmented_mask_path(image_id)
        path = run.dataset.mask_path(image_id)
        if self.with_augmented and not path.exists():
            return run.dataset.augmented_mask_path(image_id)
        return path

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        kind = self.with_augmented, self.prefers_augmented
        return run.content_of(self.name, ids, lambda i: self.mask_path(run, i), kind)

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        sizes = sizes_of(run.dataset, MASK)
        if self.with_augmented or self.prefers_augmented:
            sizes = type(sizes)(lambda image_id: self.mask_path(run, image_id), sizes.formats)
        problems = fit_problems(run.dataset, sizes, ids, "Mask", self.remedy)
        paths = _fitting(run.dataset, sizes, ids)
        return problems + mask_problems(run, paths, self.own(run, list(paths)))

    def drawer(self, run: "Run") -> Drawer:

        def draw(image_id: str, image: Image) -> list[Tile]:
            path = self.mask_path(run, image_id)
            return [_mask_tile("ground truth", image, path)] if path.exists() else []

        return draw


class PretrainedBackbone(Source):
    """What a network's backbone starts from: a word of the settings, or a file."""

    name = "the pretrained backbone"

    def shared(self, run: "Run") -> Identity:
        """The word, or the file's content."""
        weights = run.config.backbone_weights
        if weights in ("imagenet", "none"):
            return Identity.of_content(weights)
        return Identity.of_content(run.fingerprints.of(Path(weights)))

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        weights = run.config.backbone_weights
        if weights == "none":
            return []
        if weights == "imagenet":
            if run.is_only_planned:
                return []  # nothing is downloaded
            if problems := run.fetch_problems(run.config.backbone):
                return problems
        elif not Path(weights).is_file():
            return [f"--backbone_weights {weights}: no such file. Pass a file, imagenet or none."]
        # Only the main process plans: it must not wait for the others.
        from step.common.networks import loaded_backbone

        def try_file() -> list[str]:
            found = problems_of(lambda: loaded_backbone(run, run.config.backbone))
            return [f"--backbone_weights: {problem}" for problem in found]

        return run.once(("backbone", weights, run.config.backbone), try_file)


@dataclass(frozen=True, eq=False)
class CamFiles(ImageFiles):
    """CAMs: ours, or files of any dialect that somebody put there."""

    settings: tuple[str, ...] = ("cam_format", "cam_ids")
    title: str = "CAM"

    def reader(self, run: "Run", *, is_foreign: bool) -> CamReader:
        """What reads them; ours are numbered without gaps, whatever foreign ones are."""
        cam_ids = run.config.cam_ids if is_foreign else CONTIGUOUS
        return CamReader(run.dataset.num_classes, run.config.cam_format, cam_ids)

    def made(self, run: "Run") -> CamsMade:
        return CamsMade(run, self)

    def bytes_of(self, run: "Run", image_id: str, size: Size) -> int:
        """About how much disk the CAMs of an image of `size` (H,W) take."""
        dtype, high_res = run.setting("cam_dtype"), run.setting("cam_high_res")
        return cam_file_bytes(len(run.class_ids(image_id)), size, dtype, high_res=high_res)

    def drawer(self, run: "Run") -> Drawer:
        made, names, title = self.made(run), run.dataset.class_names, self.title

        def draw(image_id: str, image: Image) -> list[Tile]:
            if made.missing([image_id]):
                return []
            size = (image.shape[0], image.shape[1])
            cams = made.reader(made.files([image_id])[image_id], size, "high_res")
            pairs = zip(cams.class_ids.tolist(), cams.high_res, strict=True)
            return [
                Tile(f"{title} {names[class_id - 1]}", overlay_heat(image, cam), Colours.HEAT)
                for class_id, cam in pairs
            ]

        return draw


@dataclass(frozen=True, eq=False)
class WalkFiles(CamFiles):
    """Scores after the random walk: CAMs of stride 4 in the files of IRN."""

    settings: tuple[str, ...] = ()
    title: str = "walk"

    def reader(self, run: "Run", *, is_foreign: bool) -> CamReader:
        return CamReader(run.dataset.num_classes, "irn", CONTIGUOUS)

    def bytes_of(self, run: "Run", image_id: str, size: Size) -> int:
        """About how much disk the scores of an image of `size` (H,W) take; it needs no tags."""
        dtype = run.setting("cam_dtype")
        return cam_file_bytes(CLASSES_PER_IMAGE, size, dtype, high_res=False)


def has_exact_masks(config: Config) -> bool:
    """Whether there is anything to score against, as far as is known."""
    return config.voc12_root is None or VocDataset.masks_root(config.voc12_root).is_dir()


def has_walk(config: Config) -> bool:
    """Whether pseudo masks are made of walked scores, and not of the CAMs themselves."""
    return config.sem_seg_scores == "walk"  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class ClassifierWeights(Weights):
    """Weights of the classifier; none is trained where CAMs of somebody else are used."""

    def load(self, run: "Run") -> object:
        from step.common.networks import trained_classifier

        return trained_classifier(run, run.config.backbone)

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        problems = super().problems(run, ids)
        cams = CAMS.made(run)
        if self.file(run).exists() or not (problems and cams.is_foreign):
            return problems
        return [
            "The weights of a classifier are needed to start from, but none is trained, since you "
            f"put CAMs into {cams.folder.path}. Pass its weights with --{self.flag}, or leave out "
            "--bes_backbone cam and --seg_init cam."
        ]


def _mask_codes(run: "Run") -> Codes:
    return codes_of_masks(run.dataset.num_classes)


def _saliency_tiles(title: str, path: Path) -> list[Tile]:
    if not path.exists():
        return []
    return [Tile(title, colour_gray(read_saliency(path)), Colours.GRAY)]


def _draw_regions(folder: ImageFolder, image_id: str, image: Image) -> list[Tile]:
    path = folder.file(image_id)
    if not path.exists():
        return []
    mask = read_mask(path)
    values = np.unique(mask).tolist()
    return [Tile("confident regions", colour_mask(mask), Colours.CLASSES, values)]


def _draw_labels(folder: ImageFolder, image_id: str, image: Image) -> list[Tile]:
    path = folder.file(image_id)
    if not path.exists():
        return []
    codes = read_mask(path)
    picture, values = colour_boundary_label(codes), np.unique(codes).tolist()
    return [Tile("boundary label", picture, Colours.BOUNDARY_LABEL, values)]


def draw_masks(title: str, folder: ImageFolder, image_id: str, image: Image) -> list[Tile]:
    """Masks before and after the CRF on the photograph, those that are there."""
    titles = {".png": title, CRF_PNG: f"{title} after CRF"}
    paths = {suffix: folder.file(image_id, suffix) for suffix in folder.suffixes}
    return [_mask_tile(titles[k], image, path) for k, path in paths.items() if path.exists()]


def _mask_tile(title: str, image: Image, path: Path) -> Tile:
    mask = read_mask(path)
    if mask.shape != image.shape[:2]:
        raise UserError(f"{path} and the photograph differ in size.")
    values = np.unique(mask[mask > 0]).tolist()  # background stays clear
    return Tile(title, overlay_mask(image, mask), Colours.CLASSES, values)


@dataclass(frozen=True, eq=False)
class BoundaryWeights(Weights):
    """Weights of the boundary network; a contact sheet shows what it says of the image."""

    def load(self, run: "Run") -> object:
        from step.common.networks import trained_boundary_network

        return trained_boundary_network(run, run.config.backbone)

    def drawer(self, run: "Run") -> Drawer | None:
        if not self.file(run).exists():
            return None
        from step.common.predict import boundary_predictor

        # Theirs, whatever this run would train.
        record = None if self.file(run).is_foreign() else self.file(run).record()
        backbone = run.config.backbone if record is None else record.settings["backbone"]
        predict = boundary_predictor(run, backbone)
        return lambda image_id, image: [Tile("boundary", colour_gray(predict(image)), Colours.GRAY)]


PHOTOGRAPHS = Photographs()
CLASS_NAMES = ClassNames()
TAGS = Tags()
SALIENCY_MAPS = SaliencyMaps()
SCORED_MASKS = ExactMasks(
    "Put masks of the images' sizes there, or score another split with --chainer_eval_set. Without "
    "scores pass --eval_cam_pass no --eval_walk_pass no --eval_sem_seg_pass no."
)
PRETRAINED_BACKBONE = PretrainedBackbone()

MADE_SALIENCY = ImageFiles(
    "the saliency maps", SALIENCY_FLAG, "saliency maps that are made here", "saliency",
    image_bytes=saliency_png_bytes,
    draw=lambda folder, image_id, image: _saliency_tiles("saliency (made)", folder.file(image_id)),
)  # fmt: skip
CAM_WEIGHTS = ClassifierWeights(
    "the classifier's weights", "cam_weights_name", "weights of the classifier", "weights/cam.pth"
)
CAMS = CamFiles(
    "the CAMs", "cam_out_dir", "CAMs, made here or put here by you", "cam", suffixes=(".npy",),
    smaller="--cam_dtype float16 and --cam_high_res no make them smaller",
)  # fmt: skip
CONFIDENT_REGIONS = ImageFiles(
    "the confident regions", "cam_vis_dir", "confident regions as pictures", "cam_vis",
    image_bytes=label_png_bytes, codes=_mask_codes, draw=_draw_regions,
)  # fmt: skip
BOUNDARY_LABELS = ImageFiles(
    "the boundary labels", "boundary_label_dir", "boundary labels", "boundary_label",
    image_bytes=label_png_bytes, codes=lambda run: LABEL_CODES, draw=_draw_labels,
)  # fmt: skip
BES_WEIGHTS = BoundaryWeights(
    "the boundary network's weights", "bes_weights_name", "weights of the boundary network",
    "weights/bes.pth",
)  # fmt: skip
WALKS = WalkFiles(
    "the walked scores", "walk_out_dir", "class scores after the random walk, as CAM files", "walk",
    suffixes=(".npy",), smaller="--cam_dtype float16 makes them smaller",
)  # fmt: skip
PSEUDO_MASKS = ImageFiles(
    "the pseudo masks", "sem_seg_out_dir", "pseudo masks", "sem_seg", suffixes=(".png", CRF_PNG),
    image_bytes=lambda size: 2 * label_png_bytes(size), codes=_mask_codes,
    draw=lambda *item: draw_masks("mask", *item),
)  # fmt: skip
REFINED_MASKS = ImageFiles(
    "the refined masks", "refined_out_dir", "masks refined by SAM's regions", "refined",
    suffixes=(".png", CRF_PNG), image_bytes=lambda size: 2 * label_png_bytes(size),
    codes=_mask_codes, draw=lambda *item: draw_masks("refined mask", *item),
)  # fmt: skip


def boundary_picture(run: "Run", image_id: str) -> Path:
    """Where the boundary that an image's scores walked on lies as a picture, for people only."""
    return WALKS.path(run) / "boundary" / f"{image_id}.png"


@dataclass(frozen=True, eq=False)
class FilesOf(Source):
    """The files of images as they are now, whatever made them: for steps that judge them."""

    artefact: ImageFiles

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the artefact."""
        return self.artefact.name

    def path(self, run: "Run") -> Path:
        return self.artefact.path(run)

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        """Content of each image's files; what they will be made from where they are to come."""
        made = self.artefact.made(run)
        return made.own(ids) if made.planned is not None else made.contents(ids)

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        return self.artefact.problems(run, ids)

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        return self.artefact.warnings(run, ids)
