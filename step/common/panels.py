"""Contact sheets: everything that the pipeline makes of an image, side by side."""

import logging
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from misc.codes import VOID
from misc.errors import UserError
from misc.images import read_image
from misc.log import progress
from misc.visualize import (
    GRAY_LEGEND,
    Legend,
    boundary_label_legend,
    class_legend,
    heat_legend,
    make_panel,
)
from misc.workspace import atomic_write, digest, read_memory, remove_partial_files, write_json
from step.artefacts import PHOTOGRAPHS, SALIENCY_MAPS, SCORED_MASKS
from step.graph import Colours, Drawer, ImageFiles, Node, Source, Tile, Weights
from step.run import PANELS_FOLDER, Run

logger = logging.getLogger(__name__)

T = TypeVar("T")
SOURCES_NAME = "sources.json"
LONGEST_REASON = 200  # characters: a network's weights may not fit in hundreds of places


@dataclass(frozen=True)
class _View:
    """Something that sheets show, in one variant of the run."""

    source: Source
    run: Run
    variant: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.source.name} ({self.variant})" if self.variant else self.source.name

    def drawer(self) -> Drawer | None:
        """What draws it, with the variant in its titles."""
        draw = self.source.drawer(self.run)
        if draw is None or not self.variant:
            return draw
        named = draw

        def draw_variant(image_id: str, image: NDArray[np.uint8]) -> list[Tile]:
            tiles = named(image_id, image)
            return [tile._replace(title=f"{tile.title} ({self.variant})") for tile in tiles]

        return draw_variant

    def common(self) -> list[object]:
        """What all sheets depend on."""
        source = self.source
        settings = [self.run.config.recorded(name) for name in source.settings]
        seal = source.file(self.run).seal() if isinstance(source, Weights) else ""
        return [self.name, settings, seal]

    def own(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Fingerprint of what the sheet of each image shows of it, as it is now."""
        if isinstance(self.source, ImageFiles):
            made = self.source.made(self.run)
            gone = set(made.missing(ids))
            return made.contents([image_id for image_id in ids if image_id not in gone])
        if self.source is SALIENCY_MAPS:
            return SALIENCY_MAPS.contents(self.run, ids)
        return {} if isinstance(self.source, Weights) else self.source.own(self.run, ids)


@dataclass
class _Reasons:
    """Why something is not shown: told once for each, and no reason to fail."""

    told: set[str] = field(default_factory=set)

    def instead(self, view: _View, look: Callable[[], T], otherwise: T) -> T:
        """What `look` finds, or `otherwise`."""
        try:
            return look()
        except UserError as error:
            if view.name not in self.told:
                self.told.add(view.name)
                reason = textwrap.shorten(error.message, LONGEST_REASON, placeholder=" ...")
                logger.warning("Contact sheets are without %s: %s", view.name, reason)
            return otherwise


def write_panels(run: Run, nodes: Iterable[Node], count: int) -> list[Path]:
    """Write a contact sheet for `count` images, evenly spread over those with masks.

    Sheets of what has not changed since are left as they are.

    Args:
        run: the run.
        nodes: every step and variant that there may be results of.
        count: how many sheets there are to be.

    Returns:
        those that were written.

    Raises:
        UserError: if there is no list of images, or a photograph cannot be read.
    """
    nodes = list(nodes)
    chosen = _chosen(run, nodes, count)
    if not chosen:
        return []
    folder = run.config.out_dir / PANELS_FOLDER
    remove_partial_files(folder)
    memory = folder / SOURCES_NAME
    made_from = {i: each for i, each in read_memory(memory).items() if isinstance(each, str)}
    views, reasons = _views(run, nodes), _Reasons()
    now = _fingerprints(views, chosen, reasons, run.dataset.class_names)
    outdated = [
        image_id
        for image_id in chosen
        if made_from.get(image_id) != now[image_id] or not (folder / f"{image_id}.png").exists()
    ]
    if not outdated:
        return []
    drawers = [(view, reasons.instead(view, view.drawer, None)) for view in views]
    for image_id in progress(outdated, desc="contact sheets"):
        sheet = _panel(run, image_id, drawers, reasons)
        with atomic_write(folder / f"{image_id}.png") as file:
            iio.imwrite(file, sheet, extension=".png")
    write_json(memory, made_from | {image_id: now[image_id] for image_id in outdated})
    return [folder / f"{image_id}.png" for image_id in outdated]


def _chosen(run: Run, nodes: Sequence[Node], count: int) -> list[str]:
    """The images to show: as many of each list that masks were made of."""
    lists: list[list[str]] = []
    for node in nodes:
        place = node.step.place(node.run)
        if place is None or not place.is_dir() or not isinstance(node.step.writes, ImageFiles):
            continue
        try:
            ids = node.step.images(node.run)
        except UserError:
            continue  # a list that this run does not need
        if ids and ids not in lists:
            lists.append(ids)
    lists = lists or [run.infer_ids]
    shares = [len(part) for part in np.array_split(np.arange(count), len(lists))]
    chosen: list[str] = []
    for ids, share in zip(lists, shares, strict=True):
        places = np.linspace(0, len(ids) - 1, min(share, len(ids))).round().astype(int)
        chosen += [ids[place] for place in places.tolist()]
    return list(dict.fromkeys(chosen))


def _views(run: Run, nodes: Sequence[Node]) -> list[_View]:
    """Everything that there may be to see: of variants, what a user looks for."""
    made: dict[tuple[str, Path], _View] = {}
    for node in nodes:
        if node.variant and node.step.place(node.run) is None:
            continue
        for artefact in node.step.written(node.run):
            key = artefact.name, artefact.path(node.run)
            made.setdefault(key, _View(artefact, node.run, node.variant))
    first = [_View(PHOTOGRAPHS, run), _View(SALIENCY_MAPS, run)]
    return [*first, *made.values(), _View(SCORED_MASKS, run)]


def _fingerprints(
    views: Sequence[_View], ids: Sequence[str], reasons: _Reasons, class_names: Sequence[str]
) -> dict[str, str]:
    """Image id -> fingerprint of all that its contact sheet shows, as it is now."""
    common: list[object] = [list(class_names)]
    parts: list[Mapping[str, str]] = []
    for view in views:
        nothing: Mapping[str, str] = {}
        unknown: list[object] = [view.name]
        common.append(reasons.instead(view, view.common, unknown))
        parts.append(reasons.instead(view, partial(view.own, ids), nothing))
    return {i: digest([common, [part.get(i) for part in parts]]) for i in ids}


def _panel(
    run: Run, image_id: str, drawers: Sequence[tuple[_View, Drawer | None]], reasons: _Reasons
) -> NDArray[np.uint8]:
    """The contact sheet of one image, of whatever is there."""
    image = read_image(run.dataset.image_path(image_id))
    tiles: list[Tile] = []
    for view, draw in drawers:
        if draw is not None:
            tiles += reasons.instead(view, partial(draw, image_id, image), [])
    legends = _legends(tiles, run.dataset.class_names)
    return make_panel([(tile.title, tile.picture) for tile in tiles], legends)


def _legends(tiles: Sequence[Tile], class_names: Sequence[str]) -> dict[str, Legend]:
    """Legends of exactly the colours that tiles show."""
    values: dict[Colours, set[int]] = {}
    for tile in tiles:
        if tile.colours is not None:
            values.setdefault(tile.colours, set()).update(tile.values)
    names = {0: "background", VOID: "unsure / void"}
    names |= {k + 1: name for k, name in enumerate(class_names)}
    legends: dict[str, Legend] = {}
    if shown := values.get(Colours.CLASSES):
        legends["classes"] = class_legend({k: names[k] for k in sorted(shown) if k in names})
    if shown := values.get(Colours.BOUNDARY_LABEL):
        legends["boundary label"] = boundary_label_legend(shown)
    if Colours.HEAT in values:
        legends["CAM, walk"] = heat_legend()
    if Colours.GRAY in values:
        legends["saliency, boundary"] = GRAY_LEGEND
    return legends
