import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.codes import BoundaryLabel
from misc.images import voc_palette, write_palette_png
from misc.visualize import (
    BOUNDARY_LABEL_COLOURS,
    BOUNDARY_LABEL_LEGEND,
    class_legend,
    colour_boundary_label,
    colour_gray,
    colour_heat,
    colour_mask,
    make_panel,
    overlay_heat,
    overlay_mask,
)

MASK = np.array([[0, 1, 20], [15, 255, 0]], np.uint8)


def has_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(colour)).all(axis=-1).any())


def test_palette_has_the_published_voc_colours() -> None:
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    published = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    for index, colour in published.items():
        assert tuple(palette[index]) == colour
    assert len(np.unique(palette, axis=0)) == 256
    np.testing.assert_array_equal(voc_palette(21), palette[:21])


def test_palette_png_keeps_indices_and_colours(tmp_path: Path) -> None:
    write_palette_png(tmp_path / "mask.png", MASK)
    with Image.open(tmp_path / "mask.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), MASK)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colour_mask(MASK))


def test_palette_png_goes_into_an_open_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    write_palette_png(buffer, MASK)
    write_palette_png(str(tmp_path / "mask.part"), MASK)
    assert buffer.getvalue() == (tmp_path / "mask.part").read_bytes()


@pytest.mark.parametrize("mask", [MASK.astype(np.int64), MASK[None]])
def test_palette_png_refuses_what_is_no_mask(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pass uint8"):
        write_palette_png(io.BytesIO(), mask)


def test_every_boundary_label_code_has_a_colour_of_its_own_and_a_name() -> None:
    codes = np.array([list(BoundaryLabel)], np.uint8)
    colours = colour_boundary_label(codes)[0]
    assert [tuple(colour) for colour in colours] == list(BOUNDARY_LABEL_COLOURS.values())
    assert len(set(BOUNDARY_LABEL_COLOURS.values())) == len(BoundaryLabel)
    assert ("150 around foreground", (255, 167, 38)) in BOUNDARY_LABEL_LEGEND


def test_gray_and_heat_run_from_dark_to_light_and_clip() -> None:
    ramp = np.linspace(0, 1, 256)[None]
    np.testing.assert_array_equal(colour_gray(ramp)[0, :, 1], np.arange(256))
    lightness = colour_heat(ramp)[0].astype(int) @ np.array([299, 587, 114])
    assert (np.diff(lightness) >= 0).all()
    np.testing.assert_array_equal(
        colour_heat(ramp * 3 - 1)[0, [0, -1]], colour_heat(ramp)[0, [0, -1]]
    )


def test_overlays_leave_cold_and_background_pixels_clear() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    heat = np.zeros((4, 5), np.float32)
    heat[1, 2] = 1
    for opacity in (0.5, 1.0):
        shown = overlay_heat(image, heat, opacity)
        changed = (shown != image).any(axis=-1)
        assert changed.sum() == 1
        assert changed[1, 2]
    np.testing.assert_array_equal(shown[1, 2], colour_heat(heat)[1, 2])
    mask = np.zeros((4, 5), np.uint8)
    mask[2, 3] = 15
    shown = overlay_mask(image, mask, 1.0)
    np.testing.assert_array_equal(shown[2, 3], voc_palette()[15])
    shown[2, 3] = image[2, 3]
    np.testing.assert_array_equal(shown, image)


def test_class_legend_names_colours() -> None:
    legend = class_legend({0: "background", 15: "person"})
    assert legend == [("background", (0, 0, 0)), ("person", (192, 128, 128))]


def flat_tile(colour: tuple[int, int, int], shape: tuple[int, int]) -> np.ndarray:
    return np.full((*shape, 3), colour, np.uint8)


def test_panel_scales_tiles_to_one_height_and_wraps_rows() -> None:
    tiles = [
        (f"tile {index}", flat_tile((index * 10 + 5, 0, 99), (20 + index, 30)))
        for index in range(7)
    ]
    panel = make_panel(tiles, {}, tile_height=60, per_row=5)
    assert panel.dtype == np.uint8
    assert panel.shape[2] == 3
    tops, lefts = [], []
    for _, tile in tiles:
        rows, columns = np.nonzero((panel == tile[0, 0]).all(axis=-1))
        assert rows.max() - rows.min() + 1 == 60
        width = round(30 * 60 / len(tile))
        assert columns.max() - columns.min() + 1 == width
        assert len(rows) == 60 * width
        tops.append(rows.min())
        lefts.append(columns.min())
    assert tops[:5] == [tops[0]] * 5
    assert tops[5:] == [tops[5]] * 2
    assert tops[5] >= tops[0] + 60
    assert lefts[:5] == sorted(lefts[:5])


def test_panel_draws_every_title() -> None:
    tile = flat_tile((200, 10, 10), (40, 90))
    blank = make_panel([("", tile)], {})
    for title in ("image", "ground truth"):
        titled = make_panel([(title, tile)], {})
        assert titled.shape == blank.shape
        changed = np.nonzero((titled != blank).any(axis=-1))[0]
        assert len(changed) > 20
        assert changed.max() < 40, "the title stands above its tile"


def test_panel_widens_for_a_title_longer_than_its_tile() -> None:
    tile = flat_tile((0, 0, 0), (100, 10))
    narrow = make_panel([("a", tile), ("b", tile)], {})
    wide = make_panel([("a rather long title for a thin tile", tile), ("b", tile)], {})
    assert wide.shape[1] > narrow.shape[1]


def test_panel_explains_boundary_label_codes_unless_told_otherwise() -> None:
    tile = flat_tile((250, 250, 250), (60, 400))
    plain = make_panel([("boundary label", tile)], {})
    explained = make_panel([("boundary label", tile)])
    np.testing.assert_array_equal(explained[: len(plain)], plain)
    for _, colour in BOUNDARY_LABEL_LEGEND:
        assert has_colour(explained[len(plain) :], colour)
    both = make_panel(
        [("boundary label", tile)],
        {"boundary label": BOUNDARY_LABEL_LEGEND, "classes": class_legend({15: "person"})},
    )
    assert has_colour(both[len(explained) :], (192, 128, 128))


def test_legend_wraps_on_a_narrow_sheet() -> None:
    tile = flat_tile((1, 2, 3), (60, 20))
    one_line = make_panel([("a", flat_tile((1, 2, 3), (60, 900)))])
    wrapped = make_panel([("a", tile)])
    assert len(wrapped) > len(one_line)
    for _, colour in BOUNDARY_LABEL_LEGEND:
        assert has_colour(wrapped, colour)


def test_enlarged_label_pictures_keep_their_colours() -> None:
    codes = np.array([[0, 50], [100, 250]], np.uint8)
    panel = make_panel([("boundary label", colour_boundary_label(codes))], {}, tile_height=80)
    for code in codes.flat:
        area = (panel == np.array(BOUNDARY_LABEL_COLOURS[BoundaryLabel(code)])).all(axis=-1)
        assert area.sum() == 40 * 40


def test_panel_without_tiles_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        make_panel([])
