"""Contact sheets: everything that the pipeline makes of an image, side by side."""

from collections.abc import Mapping, Sequence

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from misc.codes import VOID
from misc.images import read_image
from misc.log import progress
from misc.visualize import BOUNDARY_LABEL_LEGEND, class_legend, make_panel
from misc.workspace import atomic_write, digest, read_memory, remove_partial_files, write_json
from step.artefacts import BOUNDARY_LABELS, PHOTOGRAPHS, SALIENCY_MAPS, SCORED_MASKS
from step.graph import Drawer, ImageFiles, Source, Weights, all_artefacts
from step.run import PANELS_FOLDER, Run

SOURCES_NAME = "sources.json"


def write_panels(run: Run, count: int) -> int:
    """Write a contact sheet for `count` images, evenly spread over those with masks.

    Sheets of what has not changed since are left as they are.

    Returns:
        how many were written.

    Raises:
        UserError: if the list of images is bad, or something that a sheet shows cannot be read.
    """
    count = min(count, len(run.infer_ids))
    if count == 0:
        return 0
    folder = run.config.out_dir / PANELS_FOLDER
    remove_partial_files(folder)
    places = np.linspace(0, len(run.infer_ids) - 1, count).round().astype(int)
    chosen = [run.infer_ids[place] for place in dict.fromkeys(places.tolist())]
    memory = folder / SOURCES_NAME
    made_from = read_memory(memory)
    shown = [PHOTOGRAPHS, SALIENCY_MAPS, *all_artefacts(), SCORED_MASKS]
    now = _fingerprints(run, shown, chosen)
    outdated = [
        image_id
        for image_id in chosen
        if made_from.get(image_id) != now[image_id] or not (folder / f"{image_id}.png").exists()
    ]
    if not outdated:
        return 0
    drawers = [drawer for source in shown if (drawer := source.drawer(run)) is not None]
    for image_id in progress(outdated, desc="panels"):
        sheet = _panel(run, image_id, drawers)
        with atomic_write(folder / f"{image_id}.png") as file:
            iio.imwrite(file, sheet, extension=".png")
    write_json(memory, made_from | {image_id: now[image_id] for image_id in outdated})
    return len(outdated)


def _fingerprints(run: Run, shown: Sequence[Source], ids: Sequence[str]) -> dict[str, str]:
    """Image id -> fingerprint of all that its contact sheet shows, as it is now."""
    parts: list[Mapping[str, str]] = []
    settings = {name: getattr(run.config, name) for each in shown for name in each.settings}
    common: list[object] = [settings, run.config.backbone, run.dataset.class_names]
    for source in shown:
        if isinstance(source, Weights):
            common.append(source.file(run).seal())
        elif isinstance(source, ImageFiles):
            made = source.made(run)
            gone = set(made.missing(ids))
            parts.append(made.contents([image_id for image_id in ids if image_id not in gone]))
        elif source is SALIENCY_MAPS:
            parts.append(SALIENCY_MAPS.contents(run, ids))
        else:
            parts.append(source.own(run, ids))
    return {i: digest([common, [part.get(i) for part in parts]]) for i in ids}


def _panel(run: Run, image_id: str, drawers: Sequence[Drawer]) -> NDArray[np.uint8]:
    """The contact sheet of one image, of whatever is there."""
    image = read_image(run.dataset.image_path(image_id))
    tiles = [tile for draw in drawers for tile in draw(image_id, image)]
    shown = {class_id for tile in tiles for class_id in tile.class_ids}
    names = {0: "background", VOID: "unsure / void"}
    names |= {k: run.dataset.class_names[k - 1] for k in sorted(shown - names.keys())}
    legends = {"classes": class_legend(names)}
    if BOUNDARY_LABELS.folder(run).file(image_id).exists():
        legends["boundary label"] = BOUNDARY_LABEL_LEGEND
    return make_panel([(tile.title, tile.picture) for tile in tiles], legends)
