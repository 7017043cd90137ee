"""Pictures for people: palettes, overlays and contact sheets."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from misc.codes import BoundaryLabel
from misc.images import voc_palette

Colour = tuple[int, int, int]
Legend = Sequence[tuple[str, Colour]]

BOUNDARY_LABEL_COLOURS: dict[BoundaryLabel, Colour] = {
    BoundaryLabel.BACKGROUND: (38, 50, 72),
    BoundaryLabel.FOREGROUND: (102, 187, 106),
    BoundaryLabel.BETWEEN_CLASSES: (233, 76, 137),
    BoundaryLabel.AROUND_FOREGROUND: (255, 167, 38),
    BoundaryLabel.IGNORE: (218, 220, 224),
    BoundaryLabel.SALIENCY_EDGE: (41, 182, 246),
}
BOUNDARY_LABEL_LEGEND: list[tuple[str, Colour]] = [
    (f"{code.value} {code.name.lower().replace('_', ' ')}", colour)
    for code, colour in BOUNDARY_LABEL_COLOURS.items()
]
# Dark violet over red and orange to pale yellow: lightness rises evenly, so it reads in gray too.
_HEAT_ANCHORS = np.array(
    [(10, 7, 35), (75, 12, 107), (137, 34, 106), (199, 62, 76), (239, 112, 33), (250, 178, 26),
     (252, 255, 164)]
)  # fmt: skip
GRAY_LEGEND: list[tuple[str, Colour]] = [("0", (0, 0, 0)), ("1", (255, 255, 255))]
_PAPER, _INK, _FRAME = (255, 255, 255), (33, 37, 41), (206, 212, 218)
_GAP, _FONT_SIZE, _TITLE_HEIGHT, _SWATCH, _SWATCH_GAP = 12, 15, 24, 14, 6


def colour_mask(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """VOC colours of a mask: (H, W) class ids -> (H, W, 3)."""
    return voc_palette()[mask]


def colour_boundary_label(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours of `BOUNDARY_LABEL_LEGEND`: (H, W) codes -> (H, W, 3); other values are black."""
    table = np.zeros((256, 3), np.uint8)
    for code, colour in BOUNDARY_LABEL_COLOURS.items():
        table[code] = colour
    return table[codes]


def colour_gray(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Gray picture of a map such as saliency: (H, W) 0..1 -> (H, W, 3), clipped."""
    return np.repeat(_to_bytes(values)[..., None], 3, axis=2)


def colour_heat(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Heat colours, dark violet to pale yellow: (H, W) 0..1 -> (H, W, 3), clipped."""
    at = np.linspace(0, 255, len(_HEAT_ANCHORS))
    table = np.stack([np.interp(np.arange(256), at, channel) for channel in _HEAT_ANCHORS.T], 1)
    return np.rint(table).astype(np.uint8)[_to_bytes(values)]


def overlay_heat(
    image: NDArray[np.uint8], heat: NDArray[np.floating[Any]], opacity: float = 0.8
) -> NDArray[np.uint8]:
    """An image with a heat map on it, such as the strongest CAM: the hotter the more opaque.

    Args:
        image: (H, W, 3) uint8 RGB.
        heat: (H, W), 0..1.
        opacity: of the hottest pixels, 0..1.

    Returns:
        (H, W, 3) uint8.
    """
    # The square root shows weak activations, which thresholds near 0.1 are about.
    alpha = opacity * np.sqrt(np.clip(heat, 0, 1))[..., None]
    return _blend(image, colour_heat(heat), alpha)


def overlay_mask(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], opacity: float = 0.6
) -> NDArray[np.uint8]:
    """An image with a mask's VOC colours on it; background stays clear, 255 turns pale.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) class ids.
        opacity: of the colours, 0..1.

    Returns:
        (H, W, 3) uint8.
    """
    return _blend(image, colour_mask(mask), opacity * (mask > 0)[..., None])


def class_legend(names: Mapping[int, str]) -> list[tuple[str, Colour]]:
    """Legend entries of masks: class id -> name, such as {0: "background"}, in VOC colours."""
    palette = voc_palette().tolist()
    return [(name, tuple(palette[index])) for index, name in names.items()]


def heat_legend() -> list[tuple[str, Colour]]:
    """Legend entries of four heats."""
    values = np.array([[0.25, 0.5, 0.75, 1.0]])
    colours = colour_heat(values)[0].tolist()
    return [(f"{v:g}", tuple(c)) for v, c in zip(values[0].tolist(), colours, strict=True)]


def boundary_label_legend(codes: Collection[int]) -> list[tuple[str, Colour]]:
    """Legend entries of these codes of boundary labels."""
    of_codes = zip(BOUNDARY_LABEL_COLOURS, BOUNDARY_LABEL_LEGEND, strict=True)
    return [entry for code, entry in of_codes if code in codes]


def make_panel(
    tiles: Sequence[tuple[str, NDArray[np.uint8]]],
    legends: Mapping[str, Legend] | None = None,
    *,
    tile_height: int = 240,
    per_row: int = 5,
) -> NDArray[np.uint8]:
    """One contact sheet of titled pictures with colour legends at its foot.

    Args:
        tiles: (title, (H, W, 3) uint8 RGB) in reading order, at least one.
        legends: title -> (name, colour) pairs, each beginning a line; None explains the codes of
            boundary labels, {} leaves legends out.
        tile_height: pixels that every tile is scaled to.
        per_row: tiles in a row before the next row begins.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ValueError: there is no tile.
    """
    if not tiles:
        raise ValueError("A panel needs at least one tile")
    if legends is None:
        legends = {"boundary label": BOUNDARY_LABEL_LEGEND}
    font = ImageFont.load_default(_FONT_SIZE)
    titles = [title for title, _ in tiles]
    pictures = [_scale_to_height(picture, tile_height) for _, picture in tiles]
    columns = min(per_row, len(tiles))
    # A title wider than its tile widens the columns, so that titles never run into each other.
    widths = [picture.width for picture in pictures]
    cell = max(widths + [_text_width(title, font) for title in titles])
    sheet_width = max(_GAP + columns * (cell + _GAP), _narrowest(legends, font))
    row_height = _TITLE_HEIGHT + tile_height + _GAP
    foot = _GAP // 2 + -(-len(tiles) // columns) * row_height
    entries, legend_height = _place_legends(legends, font, sheet_width)
    sheet = Image.new("RGB", (sheet_width, foot + legend_height), _PAPER)
    for index, (title, picture) in enumerate(zip(titles, pictures, strict=True)):
        row, column = divmod(index, columns)
        left = _GAP + column * (cell + _GAP) + (cell - picture.width) // 2
        _draw_tile(sheet, (left, _GAP // 2 + row * row_height), title, picture, font)
    for (left, top), name, colour in entries:
        _draw_entry(sheet, (left, foot + top), name, colour, font)
    return np.array(sheet)


def _draw_tile(
    sheet: Image.Image, corner: tuple[int, int], title: str, picture: Image.Image, font: Any
) -> None:
    """Draw a framed picture with its title above; `corner` is (left, top) of the title's strip."""
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    middle = (left + picture.width // 2, top + _TITLE_HEIGHT // 2)
    draw.text(middle, title, fill=_INK, font=font, anchor="mm")
    top += _TITLE_HEIGHT
    frame = (left - 1, top - 1, left + picture.width, top + picture.height)
    draw.rectangle(frame, outline=_FRAME)
    sheet.paste(picture, (left, top))


def _draw_entry(
    sheet: Image.Image, corner: tuple[int, int], name: str, colour: Colour | None, font: Any
) -> None:
    """Draw a legend's entry: a swatch and its name, or with no colour the legend's title."""
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    if colour is not None:
        draw.rectangle((left, top, left + _SWATCH, top + _SWATCH), fill=colour, outline=_FRAME)
        left += _SWATCH + _SWATCH_GAP
    draw.text((left, top + _SWATCH // 2), name, fill=_INK, font=font, anchor="lm")


def _place_legends(
    legends: Mapping[str, Legend], font: Any, sheet_width: int
) -> tuple[list[tuple[tuple[int, int], str, Colour | None]], int]:
    """Corners, names and colours of all legends' entries, wrapped to the sheet; their height."""
    placed: list[tuple[tuple[int, int], str, Colour | None]] = []
    top, line = 0, _SWATCH + _GAP
    for title, legend in legends.items():
        placed.append(((_GAP, top), f"{title}:", None))
        indent = left = _legend_indent(title, font)
        for name, colour in legend:
            width = _entry_width(name, font)
            if left > indent and left + width + _GAP > sheet_width:
                left, top = indent, top + line
            placed.append(((left, top), name, colour))
            left += width + 2 * _GAP
        top += line
    return placed, top


def _narrowest(legends: Mapping[str, Legend], font: Any) -> int:
    """Width in pixels of the narrowest sheet that cuts off no entry of the legends."""
    return max(
        (
            _legend_indent(title, font) + _entry_width(name, font) + _GAP
            for title, legend in legends.items()
            for name, _ in legend
        ),
        default=0,
    )


def _legend_indent(title: str, font: Any) -> int:
    return 2 * _GAP + _text_width(f"{title}:", font)


def _entry_width(name: str, font: Any) -> int:
    return _SWATCH + _SWATCH_GAP + _text_width(name, font)


def _text_width(text: str, font: Any) -> int:
    return int(np.ceil(font.getlength(text)))


def _scale_to_height(picture: NDArray[np.uint8], height: int) -> Image.Image:
    """The picture at this height; enlarged label pictures keep their hard colours."""
    tile = Image.fromarray(np.ascontiguousarray(picture))
    size = (max(1, round(tile.width * height / tile.height)), height)
    is_drawn = tile.getcolors(maxcolors=64) is not None
    enlarge_hard = is_drawn and height > tile.height
    how = Image.Resampling.NEAREST if enlarge_hard else Image.Resampling.LANCZOS
    return tile.resize(size, how)


def _to_bytes(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _blend(
    below: NDArray[np.uint8], above: NDArray[np.uint8], alpha: NDArray[np.floating[Any]]
) -> NDArray[np.uint8]:
    """`above` over `below`, both (H, W, 3), with alpha (H, W, 1) 0..1."""
    return np.rint(below * (1 - alpha) + above * alpha).astype(np.uint8)
