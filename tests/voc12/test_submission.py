import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.errors import UserError
from misc.images import write_palette_png
from voc12.submission import FOLDER, is_submission, write_submission

SIZES = {"2008_000006": (5, 7), "2008_000011": (6, 4)}


@pytest.fixture
def masks(tmp_path: Path) -> dict[str, Path]:
    paths = {image_id: tmp_path / f"{image_id}_crf.png" for image_id in SIZES}
    for index, (image_id, path) in enumerate(paths.items()):
        mask = np.zeros(SIZES[image_id], np.uint8)
        mask[1, 2] = 20 - index
        write_palette_png(path, mask)
    return paths


def names_and_bytes(path: Path) -> dict[str, bytes]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path, "r:gz") as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.zip"])
def test_the_archive_has_the_servers_layout(
    tmp_path: Path, masks: dict[str, Path], name: str
) -> None:
    path = tmp_path / "out" / name
    write_submission(path, masks, SIZES.__getitem__, 20)
    assert FOLDER == "results/VOC2012/Segmentation/comp6_test_cls"
    assert names_and_bytes(path) == {
        f"{FOLDER}/{image_id}.png": mask.read_bytes() for image_id, mask in masks.items()
    }
    first = path.read_bytes()
    assert is_submission(path)
    write_submission(path, masks, SIZES.__getitem__, 20)
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_another_archive_is_no_submission(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("photographs/a.png", b"")
    assert not is_submission(tmp_path / "x.zip")
    (tmp_path / "x.tgz").write_bytes(b"words")
    assert not is_submission(tmp_path / "x.tgz")


def test_what_the_server_would_refuse_is_named_and_nothing_is_written(
    tmp_path: Path, masks: dict[str, Path]
) -> None:
    first, second = masks.values()
    path = tmp_path / "x.zip"

    def refused(masks: dict[str, Path]) -> str:
        with pytest.raises(UserError) as error:
            write_submission(path, masks, SIZES.__getitem__, 20)
        assert not path.exists()
        return str(error.value)

    write_palette_png(first, np.full(SIZES["2008_000006"], 255, np.uint8))
    second.unlink()
    message = refused(masks)
    assert "the server would not accept 2 masks" in message
    assert f"{first} holds 255, but the last class is 20" in message
    assert f"{second} is missing" in message

    gray = Image.fromarray(np.zeros(SIZES["2008_000006"], np.uint8))
    gray.save(first)
    gray.putpalette([0, 0, 0, 1, 2, 3])
    gray.save(second)
    message = refused(masks)
    assert f"{first} is a PNG of mode L, not a palette PNG" in message
    assert f"{second} does not have VOC's palette" in message

    write_palette_png(first, np.zeros((7, 5), np.uint8))
    second.write_bytes(b"no picture")
    message = refused(masks)
    assert f"{first} is (7, 5), but its image is (5, 7)" in message
    assert f"{second} cannot be read" in message

    gray.save(second, "TIFF")
    assert f"{second} cannot be read" in refused(masks)


@pytest.mark.parametrize("name", ["x.tar", "x", ".zip"])
def test_other_archives_are_refused(tmp_path: Path, masks: dict[str, Path], name: str) -> None:
    with pytest.raises(UserError, match="must end in"):
        write_submission(tmp_path / name, masks, SIZES.__getitem__, 20)
