from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.images.headers import size_from_header

NOISE = np.random.default_rng(0).integers(0, 256, (37, 52, 3), np.uint8)


def save(path: Path, mode: str = "RGB", **options: object) -> Path:
    Image.fromarray(NOISE).convert(mode).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("optimize", [False, True])
def test_a_png_of_any_mode(tmp_path: Path, mode: str, optimize: bool) -> None:
    assert size_from_header(save(tmp_path / "a.png", mode, optimize=optimize)) == (37, 52)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_any_mode(tmp_path: Path, mode: str, progressive: bool) -> None:
    path = save(tmp_path / "a.jpg", mode, progressive=progressive, comment=b"drawn")
    assert size_from_header(path) == (37, 52)


def test_what_takes_a_closer_look(tmp_path: Path) -> None:
    for name in ("a.bmp", "a.gif", "a.tif"):
        assert size_from_header(save(tmp_path / name)) is None
    for content in (b"", b"words", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" * 2000):
        (tmp_path / "b.png").write_bytes(content)
        assert size_from_header(tmp_path / "b.png") is None
    long_header = save(tmp_path / "c.jpg", exif=b"Exif\0\0" + bytes(9000))
    assert size_from_header(long_header) is None


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_damaged_header_or_a_missing_end_takes_a_closer_look(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name)
    whole = path.read_bytes()
    for kept in (10, 20, 60, len(whole) // 2, len(whole) - 13):
        path.write_bytes(whole[:kept])
        assert size_from_header(path) is None, kept
    if name == "a.png":
        path.write_bytes(whole[:19] + bytes([whole[19] ^ 1]) + whole[20:])
        assert size_from_header(path) is None


def test_pictures_too_large_to_be_safe_take_a_closer_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 37 * 52 - 1)
    assert size_from_header(path) is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert size_from_header(path) == (37, 52)


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        size_from_header(tmp_path / "a.png")
