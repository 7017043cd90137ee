import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from misc.errors import UserError
from misc.saliency import (
    PNG_STEPS,
    as_exact_levels,
    normalize_by_max,
    read_saliency,
    sobel_magnitude,
)
from tests.helpers.paths import GOLDEN

LEVELS = np.arange(0, 255, 17, dtype=np.uint8).reshape(3, 5)


def picture_of_mode(mode: str) -> Image.Image:
    gray = Image.fromarray(LEVELS)
    if mode == "I;16":
        return Image.fromarray(LEVELS.astype(np.uint16) * 257)
    if mode == "P":
        # A palette in reverse order: the colours count, not the indices.
        picture = Image.fromarray(255 - LEVELS)
        picture.putpalette(np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes())
        return picture
    picture = gray.convert(mode)
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.fromarray(LEVELS[::-1, ::-1].copy()))
    return picture


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_every_png_mode_reads_the_same_values(tmp_path: Path, mode: str) -> None:
    picture = picture_of_mode(mode)
    assert picture.mode == mode
    picture.save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as stored:
        assert stored.mode in (mode, "I")
    saliency = read_saliency(tmp_path / "map.png")
    assert saliency.dtype == np.float32
    np.testing.assert_array_equal(saliency, (LEVELS / 255).astype(np.float32))


def test_one_bit_png_reads_zero_and_one(tmp_path: Path) -> None:
    black_or_white = LEVELS > 100
    Image.fromarray(black_or_white).save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as stored:
        assert stored.mode == "1"
    saliency = read_saliency(tmp_path / "map.png")
    np.testing.assert_array_equal(saliency, black_or_white.astype(np.float32))
    assert saliency.dtype == np.float32


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
@pytest.mark.parametrize("transparency", [0, b"\x00\x80\xff"])
def test_transparent_colours_are_ignored(
    tmp_path: Path, mode: str, transparency: int | bytes
) -> None:
    stored: Any = transparency
    if mode == "RGB":
        stored = (0, 0, 0)
    elif mode == "L":
        stored = 0
    picture_of_mode(mode).save(tmp_path / "map.png", transparency=stored)
    with Image.open(tmp_path / "map.png") as picture:
        assert "transparency" in picture.info
    np.testing.assert_array_equal(
        read_saliency(tmp_path / "map.png"), (LEVELS / 255).astype(np.float32)
    )


def test_sixteen_bits_keep_their_depth(tmp_path: Path) -> None:
    levels = np.array([[0, 1, 257, 40000, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "map.png")
    np.testing.assert_array_equal(
        read_saliency(tmp_path / "map.png"), (levels / 65535).astype(np.float32)
    )


def test_colours_become_gray_by_luma(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "map.png")
    np.testing.assert_allclose(
        read_saliency(tmp_path / "map.png"), [[0.299, 0.587, 0.114]], atol=0.5 / 255
    )


def test_values_are_not_divided_by_their_own_maximum(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 51, np.uint8)).save(tmp_path / "map.png")
    np.testing.assert_array_equal(read_saliency(tmp_path / "map.png"), np.float32(0.2))


def test_missing_map_names_path_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "Sal" / "dog 1.png"
    with pytest.raises(UserError, match=r"dog 1\.png.*--sal_root.*--saliency none"):
        read_saliency(path)


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_the_users_mistake(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map.png").write_bytes(content)
    with pytest.raises(UserError, match=r"Cannot read .*map\.png.*Replace"):
        read_saliency(tmp_path / "map.png")


def test_folder_in_place_of_a_map_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot read"):
        read_saliency(tmp_path)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_map_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path, mode: str) -> None:
    buffer = io.BytesIO()
    picture_of_mode(mode).resize((64, 64)).save(buffer, format="PNG")
    content = buffer.getvalue()
    end_of_pixels = content.rindex(b"IEND") - 8
    path = tmp_path / "map.png"
    for length in range(0, end_of_pixels - 8, max(1, end_of_pixels // 40)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"map\.png"):
            read_saliency(path)


def test_broken_compression_is_the_users_mistake(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture_of_mode("L").save(buffer, format="PNG")
    content = bytearray(buffer.getvalue())
    start = content.index(b"IDAT")
    length = int.from_bytes(content[start - 4 : start], "big")
    content[start + 4 : start + 4 + length] = b"\xff" * length
    checksum = zlib.crc32(content[start : start + 4 + length])
    content[start + 4 + length : start + 8 + length] = checksum.to_bytes(4, "big")
    (tmp_path / "map.png").write_bytes(content)
    with pytest.raises(UserError, match=r"map\.png"):
        read_saliency(tmp_path / "map.png")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpegs_are_read_whatever_their_name(tmp_path: Path, mode: str) -> None:
    Image.new("L", (6, 4), 153).convert(mode).save(tmp_path / "map.png", "JPEG", quality=100)
    saliency = read_saliency(tmp_path / "map.png")
    np.testing.assert_allclose(saliency, np.full((4, 6), 0.6), atol=2 / 255)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "BMP", "EPS"])
def test_other_formats_are_refused_whatever_their_name(tmp_path: Path, kind: str) -> None:
    Image.new("L", (6, 4), 153).save(tmp_path / "map.png", kind)
    with pytest.raises(UserError, match=r"map\.png: it is not an intact JPEG or PNG\. Replace"):
        read_saliency(tmp_path / "map.png")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "map.png")
    with pytest.raises(UserError, match=r"map\.png: it is not a regular file\. Replace"):
        read_saliency(tmp_path / "map.png")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalize_by_max_reaches_one_and_keeps_the_dtype(dtype: Any) -> None:
    normalised = normalize_by_max(np.array([[0, 0.1], [0.2, 0.4]], dtype))
    assert normalised.dtype == dtype
    np.testing.assert_allclose(normalised, [[0, 0.25], [0.5, 1]], rtol=1e-6)


def test_all_black_map_stays_black_without_nan() -> None:
    black = np.zeros((4, 5), np.float32)
    normalised = normalize_by_max(black)
    np.testing.assert_array_equal(normalised, black)
    assert normalised is not black
    np.testing.assert_array_equal(sobel_magnitude(normalised), np.zeros((4, 5)))


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_exact_levels_undo_float32(white: int) -> None:
    levels = np.arange(white + 1).reshape(1, -1)
    exact = as_exact_levels((levels / white).astype(np.float32))
    np.testing.assert_array_equal(exact, levels * (PNG_STEPS // white))
    # The quotient of whole levels is the float64 that the reference has.
    peak = max(1, white // 2)
    np.testing.assert_array_equal(exact / (peak * (PNG_STEPS // white)), levels / peak)


def test_exact_levels_leave_other_values_alone() -> None:
    soft = np.array([[0.0, 1e-6, 0.1234567, 1.0]])
    np.testing.assert_array_equal(as_exact_levels(soft), soft)


def test_sobel_of_a_step_worked_out_by_hand() -> None:
    step = np.zeros((5, 6))
    step[:, 3:] = 1
    # Without padding: columns 0 4 4 0, then stretched from 4 to 6 columns by
    # x -> (x + 1/2) * 4/6 - 1/2 = -1/6, 1/2, 7/6, 11/6, 5/2, 19/6.
    expected = np.tile([0, 2, 4, 4, 2, 0], (5, 1))
    np.testing.assert_allclose(sobel_magnitude(step), expected, atol=1e-12)
    np.testing.assert_allclose(sobel_magnitude(step.T), expected.T, atol=1e-12)


def test_sobel_of_a_single_pixel_worked_out_by_hand() -> None:
    dot = np.zeros((5, 5))
    dot[2, 2] = 1
    inner = np.array([[2**0.5, 2, 2**0.5], [2, 0, 2], [2**0.5, 2, 2**0.5]])
    middle = sobel_magnitude(dot)[2, 2]
    assert middle == pytest.approx(inner[1, 1])
    assert sobel_magnitude(dot)[0, 0] == pytest.approx(inner[0, 0])


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (9, 2), (0, 0)])
def test_sobel_of_a_tiny_picture_is_zero(shape: tuple[int, int]) -> None:
    np.testing.assert_array_equal(sobel_magnitude(np.ones(shape)), np.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 3), (3, 17), (31, 24)])
def test_sobel_without_padding_equals_torch(shape: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    saliency = np.random.default_rng(0).random(shape)
    kernel = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64)
    kernels = torch.stack([kernel, kernel.T])[:, None]
    gradients = torch.nn.functional.conv2d(torch.from_numpy(saliency)[None, None], kernels)
    stretched = torch.nn.functional.interpolate(
        gradients.square().sum(1, keepdim=True).sqrt(),
        size=shape,
        mode="bilinear",
        align_corners=False,
    )
    np.testing.assert_allclose(sobel_magnitude(saliency), stretched[0, 0].numpy(), atol=1e-13)


@pytest.mark.parametrize("image_id", [f"2007_{index:06d}" for index in range(1, 13)])
def test_sobel_reproduces_the_recorded_edges(image_id: str) -> None:
    with np.load(GOLDEN / "decoded_voc.npz") as decoded:
        saliency = (decoded[f"{image_id}/sal"] / 255).astype(np.float32)
    with np.load(GOLDEN / "g1_boundary_label" / "default" / "intermediate.npz") as recorded:
        expected = recorded[f"{image_id}/sobel_edge"]
    edge = sobel_magnitude(normalize_by_max(as_exact_levels(saliency)))
    if expected.dtype == np.float32:
        # These records were rounded when stored: equal to the last bit.
        np.testing.assert_array_equal(edge.astype(np.float32), expected)
    else:
        np.testing.assert_allclose(edge, expected, rtol=0, atol=1e-14)
