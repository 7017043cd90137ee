"""Contact sheets: everything that the pipeline makes of an image, side by side."""

from collections.abc import Sequence
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from misc.boundary_label import UNSURE
from misc.cam_files import read_cams
from misc.log import progress
from misc.saliency import read_saliency
from misc.visualize import (
    BOUNDARY_LABEL_LEGEND,
    class_legend,
    colour_boundary_label,
    colour_gray,
    colour_mask,
    make_panel,
    overlay_heat,
    overlay_mask,
)
from misc.workspace import (
    atomic_write,
    digest,
    read_json,
    remove_partial_files,
    stat_digest,
    write_json,
)
from step.context import Context, as_list
from step.predict import predict_boundaries
from voc12.files import read_image, read_mask
from voc12.lists import CRF_SUFFIX

SETTINGS = ("backbone", "precision", "cam_format", "saliency")
SOURCES_NAME = "sources.json"

Tile = tuple[str, NDArray[np.uint8]]


def run(context: Context) -> dict[str, Any] | None:
    """Write a contact sheet for `--panels` images, evenly spread over those with masks.

    Sheets of what has not changed since are left as they are.

    Returns:
        the number of sheets written; None if there was none to write.

    Raises:
        UserError: if the list of images is bad, or something that a sheet shows cannot be read.
    """
    count = min(context.config.panels, len(context.infer_ids))
    if count == 0 or not context.runtime.is_main:
        return None
    folder = context.config.out_dir / "panels"
    remove_partial_files(folder)
    places = np.linspace(0, len(context.infer_ids) - 1, count).round().astype(int)
    chosen = [context.infer_ids[place] for place in dict.fromkeys(places.tolist())]
    memory = folder / SOURCES_NAME
    made_from: dict[str, str] = read_json(memory) if memory.exists() else {}
    sources = _sources(context, chosen)
    outdated = [
        image_id
        for image_id in chosen
        if made_from.get(image_id) != sources[image_id] or not (folder / f"{image_id}.png").exists()
    ]
    if not outdated:
        return None
    boundaries: dict[str, np.ndarray] = {}
    if context.bes_weights.exists():
        boundaries = {i: b.cpu().numpy() for i, _, b in predict_boundaries(context, outdated)}
    for image_id in progress(outdated, desc="panels"):
        sheet = _panel(context, image_id, boundaries.get(image_id))
        with atomic_write(folder / f"{image_id}.png") as file:
            iio.imwrite(file, sheet, extension=".png")
    write_json(memory, made_from | {i: sources[i] for i in outdated})
    return {"images": len(outdated)}


def _sources(context: Context, ids: Sequence[str]) -> dict[str, str]:
    """Image id -> fingerprint of all that its contact sheet shows."""
    dataset, masks = context.dataset, context.pseudo_masks
    listing = context.list_cams()
    found = {}
    for image_id in ids:
        cam_file = None if listing is None else listing.find(image_id)
        paths = [
            dataset.image_path(image_id),
            dataset.mask_path(image_id),
            *([] if dataset.saliency_root is None else [dataset.saliency_path(image_id)]),
            *([] if cam_file is None else as_list(cam_file)),
            context.confident_regions.path(image_id),
            context.boundary_labels.path(image_id),
            context.bes_weights.path,
            *(masks.path(image_id, suffix) for suffix in masks.suffixes),
        ]
        settings = [context.config.subset(SETTINGS), dataset.class_names]
        found[image_id] = digest([stat_digest(paths), settings])
    return found


def _panel(context: Context, image_id: str, boundary: np.ndarray | None) -> NDArray[np.uint8]:
    """The contact sheet of one image, of whatever is there."""
    dataset = context.dataset
    image = read_image(dataset.image_path(image_id))
    tiles: list[Tile] = [(image_id, image)]
    names = {0: "background", UNSURE: "unsure / void"}
    if dataset.saliency_root is not None and dataset.saliency_path(image_id).exists():
        tiles.append(("saliency", colour_gray(read_saliency(dataset.saliency_path(image_id)))))
    if not context.cams_without_file([image_id]):
        cams = read_cams(
            context.cam_files([image_id])[image_id],
            image.shape[:2],
            num_classes=dataset.num_classes,
            cam_format=context.config.cam_format,
            parts=["high_res"],
        )
        for class_id, cam in zip(cams.class_ids.tolist(), cams.high_res, strict=True):
            name = dataset.class_names[class_id - 1]
            names[class_id] = name
            tiles.append((f"CAM {name}", overlay_heat(image, cam)))
    regions = context.confident_regions.path(image_id)
    if regions.exists():
        tiles.append(("confident regions", colour_mask(read_mask(regions))))
    codes = context.boundary_labels.path(image_id)
    if codes.exists():
        tiles.append(("boundary label", colour_boundary_label(read_mask(codes))))
    if boundary is not None:
        tiles.append(("boundary", colour_gray(boundary)))
    for title, suffix in (("mask", ".png"), ("mask after CRF", f"{CRF_SUFFIX}.png")):
        path = context.pseudo_masks.path(image_id, suffix)
        if path.exists():
            tiles.append((title, overlay_mask(image, read_mask(path))))
    if dataset.mask_path(image_id).exists():
        truth = read_mask(dataset.mask_path(image_id))
        tiles.append(("ground truth", overlay_mask(image, truth)))
    legends = {"classes": class_legend(names), "boundary label": BOUNDARY_LABEL_LEGEND}
    return make_panel(tiles, legends)
