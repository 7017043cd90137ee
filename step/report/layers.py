"""What the gallery can lay over a photograph, and how it becomes a small picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from misc.errors import UserError
from misc.images import read_image, read_mask, voc_palette
from misc.saliency import read_saliency
from misc.visualize import BOUNDARY_LABEL_COLOURS, colour_heat
from step.artefacts import (
    BOUNDARY_LABELS,
    CAMS,
    CRF_PNG,
    PSEUDO_MASKS,
    REFINED_MASKS,
    SCORED_MASKS,
    WALKS,
    CamFiles,
    boundary_picture,
)
from step.common.results import CamFile, CamReader
from step.graph import ImageFiles
from step.seg.results import MASKS, seeds_of
from voc12.picture_sizes import Size

if TYPE_CHECKING:
    from step.run import Run

LONGEST_SIDE = 256  # pixels of a small picture
LEVELS = 32  # of soft maps: enough for the eye, and small
BOUNDARY_COLOUR = (255, 214, 10)
PHOTO, EXACT = "photo", "exact"

Draw = Callable[[CamFile, Size], Image.Image]
"""File or files of an image of size (H,W) -> the small picture; picklable."""


@dataclass(frozen=True)
class Layer:
    """One kind of picture in the gallery.

    Attributes:
        key: names it in files and addresses.
        title: what people read.
        files: image id -> the file or files that it shows, of the images that have any.
        draw: makes the small picture.
        is_mask: it holds class ids, which can be scored.
        legend: what its colours mean: "classes", "heat", "gray", "boundary", "labels" or "".
    """

    key: str
    title: str
    files: Mapping[str, CamFile]
    draw: Draw
    is_mask: bool = False
    legend: str = ""


def suffix_of(key: str) -> str:
    """What the names of a layer's small pictures end in."""
    return ".jpg" if key == PHOTO else ".png"


def layers_of(run: "Run", ids: Sequence[str]) -> list[Layer]:
    """What there is to show of these images, photographs first, exact masks last."""
    dataset = run.dataset
    photographs: dict[str, CamFile] = {i: dataset.image_path(i) for i in ids}
    saliency = {} if dataset.saliency_root is None else _there(ids, dataset.saliency_path)
    exact = _there(ids, lambda image_id: SCORED_MASKS.mask_path(run, image_id))
    found = [
        Layer(PHOTO, "photograph", photographs, draw_photograph),
        _cam_layer(run, "cam", "CAM", CAMS, ids),
        Layer("saliency", "saliency", saliency, draw_saliency, legend="gray"),
        _layer(run, "label", "boundary label", BOUNDARY_LABELS, ids, draw_labels, "labels"),
        Layer("boundary", "boundary", _there(ids, lambda i: boundary_picture(run, i)),
              draw_boundary, legend="boundary"),
        _cam_layer(run, "walk", "walk", WALKS, ids),
        *_mask_layers(run, "mask", "mask", PSEUDO_MASKS, ids),
        *_mask_layers(run, "refined", "refined", REFINED_MASKS, ids),
        *(
            layer
            for of_seed in seeds_of(run)[:1]
            for layer in _mask_layers(of_seed, "seg", "DeepLab-v2", MASKS["last"], ids)
        ),
        Layer(EXACT, "exact mask", exact, draw_mask, is_mask=True, legend="classes"),
    ]  # fmt: skip
    return [layer for layer in found if layer.files]


def _there(ids: Sequence[str], path_of: Callable[[str], Path]) -> dict[str, CamFile]:
    """The file of each image that has one; folders are listed once, not asked for each file."""
    paths = {image_id: path_of(image_id) for image_id in ids}
    folders = {path.parent for path in paths.values()}
    names = {each: {path.name for path in each.iterdir()} for each in folders if each.is_dir()}
    return {i: path for i, path in paths.items() if path.name in names.get(path.parent, ())}


def _layer(
    run: "Run", key: str, title: str, artefact: ImageFiles, ids: Sequence[str], draw: Draw,
    legend: str, suffix: str = ".png",
) -> Layer:  # fmt: skip
    folder = artefact.folder(run).path
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    files: dict[str, CamFile] = {
        image_id: folder / name for image_id in ids if (name := f"{image_id}{suffix}") in names
    }
    return Layer(key, title, files, draw, is_mask=draw is draw_mask, legend=legend)


def _mask_layers(
    run: "Run", key: str, title: str, artefact: ImageFiles, ids: Sequence[str]
) -> list[Layer]:
    """Masks before and after the CRF."""
    plain = _layer(run, key, title, artefact, ids, draw_mask, "classes")
    after = f"{title} after CRF"
    return [
        plain, _layer(run, f"{key}_crf", after, artefact, ids, draw_mask, "classes", CRF_PNG)
    ]  # fmt: skip


def _cam_layer(run: "Run", key: str, title: str, artefact: CamFiles, ids: Sequence[str]) -> Layer:
    made = artefact.made(run)
    try:
        gone = set(made.missing(ids))
        files = made.files([image_id for image_id in ids if image_id not in gone])
    except UserError:
        files = {}  # the step that reads them says what is wrong with the folder
    return Layer(key, title, files, partial(draw_cams, read=made.reader), legend="heat")


def fitting(size: Size) -> Size:
    """Height and width of a small picture of an image of `size` (H,W)."""
    scale = min(1.0, LONGEST_SIDE / max(*size, 1))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def draw_photograph(file: CamFile, size: Size) -> Image.Image:
    """The photograph, smaller."""
    assert isinstance(file, Path)
    height, width = fitting(size)
    how = Image.Resampling.BILINEAR
    return Image.fromarray(read_image(file)).resize((width, height), how, reducing_gap=2.0)


def draw_cams(file: CamFile, size: Size, *, read: CamReader) -> Image.Image:
    """The strongest class at each place, in heat colours: the stronger the more opaque.

    The maps of stride 4 are small enough already.
    """
    maps = read(file, size, "cam").cam
    strongest = maps.max(axis=0) if len(maps) else np.zeros((1, 1), np.float32)
    at = np.linspace(0, 1, LEVELS)
    # The square root shows weak activations, which thresholds near 0.1 are about.
    alpha = (255 * np.sqrt(at)).round().astype(np.uint8)
    colours = np.column_stack([colour_heat(at[None])[0], alpha])
    return picture_of(_levels(strongest), colours)


def draw_saliency(file: CamFile, size: Size) -> Image.Image:
    """A saliency map in gray."""
    assert isinstance(file, Path)
    levels = _smaller(read_saliency(file), size)
    gray = np.linspace(0, 255, LEVELS).round().astype(np.uint8)
    opaque = np.full(LEVELS, 255, np.uint8)
    return picture_of(levels, np.stack([gray, gray, gray, opaque], axis=1))


def draw_boundary(file: CamFile, size: Size) -> Image.Image:
    """Boundary probabilities: the likelier the more opaque."""
    assert isinstance(file, Path)
    colours = np.empty((LEVELS, 4), np.uint8)
    colours[:, :3] = BOUNDARY_COLOUR
    colours[:, 3] = np.linspace(0, 255, LEVELS).round()
    return picture_of(_smaller(read_saliency(file), size), colours)


def draw_labels(file: CamFile, size: Size) -> Image.Image:
    """A boundary label in the colours of its legend; what is ignored stays clear."""
    assert isinstance(file, Path)
    colours = np.zeros((256, 4), np.uint8)
    for code, colour in BOUNDARY_LABEL_COLOURS.items():
        colours[code] = (*colour, 0 if code.name == "IGNORE" else 255)
    return _picture_of_codes(read_mask(file), colours, size)


def draw_mask(file: CamFile, size: Size) -> Image.Image:
    """A mask in VOC's colours; background stays clear."""
    assert isinstance(file, Path)
    colours = np.full((256, 4), 255, np.uint8)
    colours[:, :3] = voc_palette()
    colours[0, 3] = 0
    return _picture_of_codes(read_mask(file), colours, size)


def picture_of(indices: NDArray[np.uint8], colours: NDArray[np.uint8]) -> Image.Image:
    """A palette picture of indices (h,w) into colours (n,4) with their opacity."""
    picture = Image.fromarray(indices)
    picture.putpalette(np.ascontiguousarray(colours[:, :3]).tobytes())
    picture.info["transparency"] = colours[:, 3].tobytes()
    return picture


def _picture_of_codes(
    codes: NDArray[np.uint8], colours: NDArray[np.uint8], size: Size
) -> Image.Image:
    """Codes (H,W), smaller, with no more colours than they need."""
    height, width = fitting(size)
    rows = (np.arange(height) + 0.5) * codes.shape[0] / height
    columns = (np.arange(width) + 0.5) * codes.shape[1] / width
    small = codes[rows.astype(int)[:, None], columns.astype(int)]
    shown, indices = np.unique(small, return_inverse=True)
    return picture_of(indices.reshape(small.shape).astype(np.uint8), colours[shown])


def _smaller(values: NDArray[np.float32], size: Size) -> NDArray[np.uint8]:
    """Levels of a map 0..1 on any grid, as a small picture of an image of `size` has them."""
    height, width = fitting(size)
    how = Image.Resampling.BILINEAR
    small = Image.fromarray(values).resize((width, height), how, reducing_gap=2.0)
    return _levels(np.asarray(small))


def _levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * (LEVELS - 1)).astype(np.uint8)
