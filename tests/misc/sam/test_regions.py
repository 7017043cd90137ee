import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from misc.errors import UserError
from misc.sam import RegionFolder, files_of_regions, read_regions
from misc.sam import regions as module
from tests.helpers.regions import rle_of, write_json, write_map, write_pngs

SIZE = (5, 7)
PIXELS = 35


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    region = np.zeros(SIZE, bool)
    region[top:bottom, left:right] = True
    return region


LEFT, RIGHT, LAST_COLUMN = box(1, 0, 4, 3), box(0, 4, 5, 6), box(0, 6, 5, 7)
REGIONS = [LEFT, RIGHT, LAST_COLUMN]

WRITERS: dict[str, Callable[[Path, str, list[np.ndarray]], Path]] = {
    "pngs": write_pngs,
    "compressed": write_json,
    "counted": lambda *item: write_json(*item, compressed=False),
    "map": write_map,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_regions_come_back(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path, "a photo.1", REGIONS)
    assert RegionFolder(tmp_path).find("a photo.1") == path
    read = list(read_regions(path, SIZE))
    np.testing.assert_array_equal(read, REGIONS)
    assert all(region.dtype == bool for region in read)


def test_run_lengths_are_counted_down_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rle = {"size": [5, 7], "counts": [6, 3, 26]}
    path.write_text(json.dumps([{"segmentation": rle}]))
    (region,) = read_regions(path, SIZE)
    assert np.argwhere(region).tolist() == [[1, 1], [2, 1], [3, 1]]
    assert rle_of(region, compressed=False) == rle


def test_no_regions_are_legal_where_amg_ended(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    np.save(tmp_path / "c.npy", np.full(SIZE, -1))
    folder = write_pngs(tmp_path, "b", [])
    for path in (tmp_path / "a.json", folder, tmp_path / "c.npy"):
        assert list(read_regions(path, SIZE)) == []
    (folder / "metadata.csv").unlink()
    with pytest.raises(UserError, match=r"b holds neither a PNG nor metadata\.csv"):
        list(read_regions(folder, SIZE))


def test_an_image_has_its_regions_in_one_form_or_in_none(tmp_path: Path) -> None:
    write_json(tmp_path, "a", REGIONS)
    write_map(tmp_path, "b", REGIONS)
    write_pngs(tmp_path, "b", REGIONS)
    folder = RegionFolder(tmp_path)
    assert folder.find("a.json") is folder.find("c") is None
    with pytest.raises(UserError, match=r"holds both b/ and b\.npy\. Remove one"):
        folder.find("b")
    with pytest.raises(UserError, match=r"--sam_root .*c is not a folder"):
        RegionFolder(tmp_path / "c")


def test_the_files_of_an_image_are_its_pngs_or_the_one_file(tmp_path: Path) -> None:
    folder, path = write_pngs(tmp_path, "b", REGIONS), write_json(tmp_path, "a", REGIONS)
    assert files_of_regions(path) == [path]
    assert files_of_regions(folder) == [folder / "0.png", folder / "1.png", folder / "2.png"]


def test_which_pngs_are_there_counts_not_the_metadata(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path, "b", REGIONS)
    (folder / "1.png").unlink()
    np.testing.assert_array_equal(list(read_regions(folder, SIZE)), [LEFT, LAST_COLUMN])


def test_black_and_white_pngs_of_one_bit_are_read(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path, "b", [])
    Image.fromarray(LEFT).save(folder / "0.png")
    np.testing.assert_array_equal(list(read_regions(folder, SIZE)), [LEFT])


def png(values: np.ndarray, mode: str = "L") -> Callable[[Path], object]:
    def write(root: Path) -> None:
        Image.fromarray(values.astype(np.uint8)).convert(mode).save(
            write_pngs(root, "a", []) / "3.png"
        )

    return write


def text(content: str) -> Callable[[Path], object]:
    return lambda root: (root / "a.json").write_text(content)


def entries(*content: Any) -> Callable[[Path], object]:
    return text(json.dumps(content))


def rle(counts: Any, size: Any = SIZE) -> dict[str, Any]:
    return {"segmentation": {"size": size, "counts": counts}}


def saved(array: np.ndarray) -> Callable[[Path], object]:
    return lambda root: np.save(root / "a.npy", array)


def pickled(root: Path) -> None:
    np.save(root / "a.npy", np.array({"a": 1}, object), allow_pickle=True)


def pickled_map(root: Path) -> None:
    np.save(root / "a.npy", np.array([[0], [1]], object), allow_pickle=True)


def claiming(root: Path) -> None:
    header = {"descr": "<i8", "fortran_order": False, "shape": (10**6, 10**6)}
    with open(root / "a.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)


def truncated(root: Path) -> None:
    os.truncate(write_pngs(root, "a", [np.eye(*SIZE) > 0]) / "0.png", 50)


def not_a_png(root: Path) -> None:
    Image.new("L", SIZE[::-1]).save(write_pngs(root, "a", []) / "0.png", format="GIF")


def pipe(root: Path) -> None:
    os.mkfifo(root / "a.json")


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "png of another size": (png(np.zeros((7, 5))), r"3\.png is 5x7, but its image is 7x5"),
    "gray png": (png(np.eye(*SIZE) * 254), r"3\.png holds other values than 0 and 255"),
    "png of colours": (png(np.zeros(SIZE), "RGB"), r"3\.png has mode RGB"),
    "truncated png": (truncated, r"Cannot read the region .*0\.png"),
    "gif": (not_a_png, "not an intact PNG"),
    "no json": (text("[1,"), r"a\.json is not read as JSON"),
    "not utf-8": (lambda root: (root / "a.json").write_bytes(b"[\xff]"), "is not read as JSON"),
    "deep json": (text("[" * 100_000), "is not read as JSON"),
    "pipe": (pipe, "is not read as JSON: it is not a regular file"),
    "a number": (text("7"), r"a\.json holds no list of regions"),
    "SA-1B": (text('{"annotations": []}'), "holds no list of regions"),
    "no entry": (entries(3), "region 0 has no run lengths"),
    "a polygon": (entries({"segmentation": [[1, 2, 3, 4, 5, 6]]}), "region 0 has no run lengths"),
    "no size": (entries({"segmentation": {"counts": [35]}}), "region 0 has no run lengths"),
    "another size": (entries(rle([35], [7, 5])), r"region 0: .* size \[7, 5\], but"),
    "too few pixels": (entries(rle([35]), rle([34])), r"a\.json, region 1: .* cover 34 of 35"),
    "too many pixels": (entries(rle([10**30])), "cover 10{30} of 35"),
    "negative": (entries(rle([-1, 36])), "neither a list of counts"),
    "damaged": (entries(rle("~~~")), "compressed run lengths are damaged"),
    "endless number": (entries(rle("o" * 10**6 + "0")), "compressed run lengths are damaged"),
    "surrogates": (entries(rle("\ud800")), "compressed run lengths are damaged"),
    "pickle": (pickled, "it is a pickle, but only a plain array"),
    "pickled map": (pickled_map, r"a\.npy is not read: it is an array of objects"),
    "claim": (claiming, r"a\.npy is not read"),
    "floats": (saved(np.zeros(SIZE)), r"a\.npy is not an array of whole numbers"),
    "channels": (saved(np.zeros((1, *SIZE), int)), r"shape \(1, 5, 7\), not \(H,W\)"),
    "turned": (saved(np.zeros(SIZE[::-1], int)), r"a\.npy is 5x7, but its image is 7x5"),
    "below -1": (saved(np.full(SIZE, -2)), r"holds -2: regions are numbered from 0"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_cannot_be_regions_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    write, reason = HOSTILE[kind]
    write(tmp_path)
    path = RegionFolder(tmp_path).find("a")
    assert path is not None
    with pytest.raises(UserError, match=reason) as caught:
        list(read_regions(path, SIZE))
    assert "--sam_root" in str(caught.value) or "trust its author" in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("kind", WRITERS)
def test_so_many_regions_are_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = WRITERS[kind](tmp_path, "a", REGIONS)
    monkeypatch.setattr(module, "MAX_REGIONS", 2)
    with pytest.raises(UserError, match="has 3 regions, but at most 2 are read"):
        list(read_regions(path, SIZE))


def test_a_long_json_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_json(tmp_path, "a", REGIONS)
    monkeypatch.setattr(module, "MAX_JSON_BYTES", path.stat().st_size - 1)
    with pytest.raises(UserError, match=r"a\.json has more than \d+ bytes"):
        list(read_regions(path, SIZE))
    monkeypatch.setattr(module, "MAX_JSON_BYTES", path.stat().st_size)
    assert len(list(read_regions(path, SIZE))) == 3
