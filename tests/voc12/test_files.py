import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from misc.errors import UserError
from misc.images import PNG_ONLY, image_size, read_image, read_mask, voc_palette
from tests.helpers.old_pillow import skip_if_read
from voc12.files import VocDataset

GRAY = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
COLOUR = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)
READERS: list[Callable[[Path], Any]] = [read_image, read_mask, image_size]


def saved(path: Path, picture: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA"])
def test_every_png_mode_reads_as_the_same_rgb(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(GRAY).convert(mode))
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.stack([GRAY] * 3, axis=-1))


def test_transparent_colours_of_a_palette_are_ignored(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOUR).quantize(16)
    path = saved(tmp_path / "a.png", picture, transparency=bytes(range(16)))
    np.testing.assert_array_equal(read_image(path), np.array(picture.convert("RGB")))


def test_sixteen_bit_photographs_keep_their_upper_byte(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(GRAY.astype(np.uint16) * 256 + 9))
    np.testing.assert_array_equal(read_image(path), np.stack([GRAY] * 3, axis=-1))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_jpegs_read_as_rgb(tmp_path: Path, mode: str) -> None:
    path = saved(
        tmp_path / "a.jpg", Image.new(mode, (12, 10), 0 if mode == "L" else (0, 255, 0, 0))
    )
    image = read_image(path)
    expected = (0, 0, 0) if mode == "L" else (255, 0, 255)
    assert image.shape == (10, 12, 3)
    assert np.abs(image.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "P"])
def test_masks_keep_their_ids(tmp_path: Path, mode: str) -> None:
    ids = np.array([[0, 1], [20, 255]], np.uint8)
    picture = Image.fromarray(ids)
    if mode == "P":
        picture.putpalette(list(range(255, -1, -1)) * 3)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "a.png", picture)), ids)


def test_masks_in_the_palette_s_exact_colours_become_ids(tmp_path: Path) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = saved(tmp_path / "a.png", Image.fromarray(voc_palette()[ids]))
    mask = read_mask(path)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids)
    colours = np.array([[(0, 0, 0), (128, 0, 0)], [(0, 64, 128), (224, 224, 192)]], np.uint8)
    assert read_mask(saved(path, Image.fromarray(colours))).tolist() == [[0, 1], [20, 255]]


@pytest.mark.parametrize("colour", [(128, 0, 1), (127, 0, 0), (255, 255, 255), (1, 1, 1)])
def test_any_other_colour_is_refused_by_name(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[3, 1] = colour
    path = saved(tmp_path / "a.png", Image.fromarray(colours))
    told = rf"a\.png has the colour \({', '.join(map(str, colour))}\) in row 3, column 1"
    with pytest.raises(UserError, match=told):
        read_mask(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "1"])
def test_masks_of_other_modes_are_refused(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(COLOUR).convert(mode))
    with pytest.raises(UserError, match=rf"a\.png has mode {mode}"):
        read_mask(path)


@pytest.mark.parametrize("read", READERS)
def test_missing_and_broken_pictures_are_named(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(UserError, match=r"none\.png"):
        read(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.png"):
        read(tmp_path / "text.png")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["EPS", "TIFF", "GIF", "BMP"])
def test_other_formats_are_refused_whatever_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, read: Callable[[Path], Any]
) -> None:
    """Pillow hands an EPS to Ghostscript."""
    started: list[Any] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **_: started.append(args))
    path = saved(tmp_path / "x.png", Image.fromarray(GRAY), format=kind)
    with pytest.raises(UserError, match=r"x\.png.*not an intact (JPEG or )?PNG.*Replace"):
        read(path)
    assert not started


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_photographs_are_jpeg_or_png_whatever_their_name(tmp_path: Path, name: str) -> None:
    for kind in ("JPEG", "PNG"):
        path = saved(tmp_path / name, Image.fromarray(COLOUR), format=kind)
        assert read_image(path).shape == (*image_size(path), 3) == (10, 12, 3)


def test_masks_are_png_and_no_lossy_kind(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(GRAY), format="JPEG")
    with pytest.raises(UserError, match=r"a\.png: it is not an intact PNG\. Replace"):
        read_mask(path)
    assert image_size(path) == (10, 12)
    with pytest.raises(UserError, match=r"a\.png .*not an intact PNG.*Replace"):
        image_size(path, PNG_ONLY)


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file_is_refused_instead_of_waited_for(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match=r"pipe\.png.*not a regular file.*Replace"):
        read(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png.*directory.*Replace"):
        read(tmp_path / "folder.png")


@pytest.mark.parametrize("read", READERS[:2])
def test_a_damaged_profile_behind_the_pixels_is_the_users_mistake(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(GRAY))
    content, chunk = path.read_bytes(), b"iCCPx\0"
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    path.write_bytes(content[:-12] + chunk + content[-12:])
    skip_if_read(path)
    with pytest.raises(UserError, match=r"Cannot read .*a\.png.*Replace"):
        read(path)


def test_a_picture_too_large_to_be_meant_is_the_users_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(GRAY))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for read in READERS:
        with pytest.raises(UserError, match=r"a\.png"):
            read(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_size_comes_from_the_header_as_height_and_width(tmp_path: Path, name: str) -> None:
    assert image_size(saved(tmp_path / name, Image.fromarray(COLOUR))) == (10, 12)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_pictures_cut_short_are_found(tmp_path: Path, name: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path / name, Image.fromarray(noise))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    for read in (image_size, read_image):
        with pytest.raises(UserError, match=r"Replace the file"):
            read(path)


@pytest.mark.parametrize("length", [1, 10_000])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_bytes_after_the_end_do_no_harm(tmp_path: Path, name: str, length: int) -> None:
    path = saved(tmp_path / name, Image.fromarray(COLOUR))
    before = read_image(path)
    path.write_bytes(path.read_bytes() + bytes(length))
    assert image_size(path) == (10, 12)
    np.testing.assert_array_equal(read_image(path), before)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".JPEG", ".png"])
def test_photographs_are_found_under_any_usual_suffix(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / "JPEGImages" / f"süß 1{suffix}", Image.fromarray(COLOUR))
    assert VocDataset.open(tmp_path).image_path("süß 1").samefile(path)


def test_a_missing_photograph_is_expected_as_jpg(tmp_path: Path) -> None:
    assert VocDataset.open(tmp_path).image_path("a") == tmp_path / "JPEGImages" / "a.jpg"


def test_augmented_masks_fall_back_to_the_exact_ones(tmp_path: Path) -> None:
    dataset = VocDataset.open(tmp_path)
    assert dataset.augmented_mask_path("a") == tmp_path / "SegmentationClass" / "a.png"
    augmented = saved(tmp_path / "SegmentationClassAug" / "a.png", Image.fromarray(GRAY))
    assert dataset.augmented_mask_path("a") == augmented


def test_saliency_is_asked_for_only_where_there_is_some(tmp_path: Path) -> None:
    with_saliency = VocDataset.open(tmp_path, tmp_path / "maps")
    assert with_saliency.saliency_path("a") == tmp_path / "maps" / "a.png"
    with pytest.raises(ValueError, match="without saliency"):
        VocDataset.open(tmp_path).saliency_path("a")


def test_a_dataset_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data_root"):
        VocDataset.open(tmp_path / "none")


def test_class_names_are_vocs_unless_the_dataset_has_its_own(tmp_path: Path) -> None:
    assert VocDataset.open(tmp_path).num_classes == 20
    (tmp_path / "classes.txt").write_text("\ufeff cat\n\nred dog \n", encoding="utf-8")
    assert VocDataset.open(tmp_path).class_names == ("cat", "red dog")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"cat\ndog\ncat\n", "names cat twice"),
        (b"\n \n", "has 0 names"),
        ("\n".join(map(str, range(255))).encode(), "has 255 names"),
        (b"\xff\xfecat", "not UTF-8"),
        (b"background\ncat\n", "names background, which is no class of yours: it is class 0"),
        (b"cat\n__background__\n", "names __background__, which is no class.*Remove the line"),
    ],
)
def test_class_lists_that_cannot_be_are_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        VocDataset.open(tmp_path)
