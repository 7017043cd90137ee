"""Hostile CAM files through the command line: named, not run, and not believed."""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from misc.cam_files.convert import main as convert
from misc.images import read_mask
from tests.helpers.cam_writers import WRITERS, save
from tests.helpers.memory import MIB, bounded_memory
from tests.helpers.old_pillow import skip_if_read
from tests.helpers.pickles import F4, array_pickle, as_npy
from tests.helpers.sets import all_ids
from tests.helpers.tiny import Run, run

SIZE = (60, 80)  # of images that are not there
RAN = "ran"  # a file beside the CAMs that appears if one of them is run
MAX_GROWTH = 40 * MIB
Plant = Callable[[Path, np.ndarray], object]  # where, and maps (1,H,W) that fit the image


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def maps_of(size: tuple[int, ...]) -> np.ndarray:
    return np.full((1, *size), 0.5, np.float32)


def content(maps: np.ndarray, **changes: Any) -> dict[str, Any]:
    return {"keys": [3], "cam": maps[:, ::4, ::4].copy(), "high_res": maps, **changes}


def spoiled(maps: np.ndarray, value: float) -> dict[str, Any]:
    changed = maps.copy()
    changed[0, 5, 5] = value
    return content(maps, high_res=changed)


def claim(path: Path, num_bytes: int) -> None:
    """A header that announces 10 GB, before so many bytes."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (20, 50000, 10000)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + num_bytes)


def truncate(path: Path, maps: np.ndarray) -> None:
    save(path, content(maps))
    os.truncate(path, path.stat().st_size // 2)


def bomb(path: Path, _: np.ndarray) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("high_res.npy", bytes(10**8))


def link_out(path: Path, maps: np.ndarray) -> None:
    outside = path.parent.parent / "outside.npy"
    save(outside, content(maps))
    path.symlink_to(outside)


def endless_text(path: Path, _: np.ndarray) -> None:
    pairs = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
    dtype = F4.replace(b"X\x02\x00\x00\x00f4", pairs)
    path.write_bytes(as_npy(array_pickle(b"K\x01\x85", dtype, b"C\x04\x00\x00\x80?")))


HOSTILE: dict[str, tuple[Plant, str]] = {
    "code": (lambda p, m: save(p, content(m, more=Evil(p.parent / RAN))), "system"),
    "objects": (lambda p, m: save(p, content(m, cam=np.array([1, None]))), "array of objects"),
    "truncated": (truncate, "truncated"),
    "bomb": (bomb, "zip archive"),
    "lying header": (lambda p, _: claim(p, 0), "10000000000 bytes, but holds 0"),
    "10 GB": (lambda p, _: claim(p, 10**10), "at most"),
    "endless": (endless_text, "array of type tuple"),
    "NaN": (lambda p, m: save(p, spoiled(m, np.nan)), "NaN or infinite"),
    "negative": (lambda p, m: save(p, spoiled(m, -0.5)), "down to -0.5"),
    "size": (lambda p, m: save(p, content(m, high_res=m[:, 1:])), "but the image needs"),
    "link": (link_out, "link out of its folder"),
    "pipe": (lambda p, _: os.mkfifo(p), "not a regular file"),
}


def maps_for(root: Path, image_id: str) -> np.ndarray:
    return maps_of(read_mask(root / "SegmentationClass" / f"{image_id}.png").shape)


@pytest.fixture
def good(tiny_dataset: Path, tmp_path: Path) -> Path:
    """CAMs of all images."""
    folder = tmp_path / "cams"
    folder.mkdir()
    for image_id in all_ids(tiny_dataset):
        WRITERS["irn"](folder, image_id, [3], maps_for(tiny_dataset, image_id))
    return folder


@pytest.fixture(scope="module", autouse=True)
def imported(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What steps import takes memory once, and not on account of a hostile file."""
    folder = tmp_path_factory.mktemp("imported")
    assert run(tiny_dataset, folder, "--steps=eval_cam,benchmark").status == 2


def run_bounded(root: Path, out_dir: Path, *flags: str) -> Run:
    with bounded_memory(MAX_GROWTH):
        return run(root, out_dir, *flags)


def replace_first(root: Path, folder: Path, kind: str) -> Path:
    image_id = all_ids(root)[0]
    path = folder / f"{image_id}.npy"
    path.unlink()
    HOSTILE[kind][0](path, maps_for(root, image_id))
    return path


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_step_names_the_file_and_the_reason(
    tiny_dataset: Path, good: Path, tmp_path: Path, kind: str
) -> None:
    path = replace_first(tiny_dataset, good, kind)
    done = run_bounded(tiny_dataset, tmp_path / "out", "--steps=eval_cam", f"--cam_out_dir={good}")
    assert done.status == 2
    assert str(path) in done.stderr
    assert HOSTILE[kind][1] in done.stderr
    assert not (tmp_path / "out" / "scores.json").exists()
    assert not (good / RAN).exists()


@pytest.mark.parametrize("kind", ["code", "endless", "10 GB"])
def test_so_does_the_benchmark(tiny_dataset: Path, good: Path, tmp_path: Path, kind: str) -> None:
    path = replace_first(tiny_dataset, good, kind)
    flags = (f"--benchmark_cams=theirs={good}", "--benchmark_choose_images=0")
    done = run_bounded(tiny_dataset, tmp_path / "out", "--steps=benchmark", *flags)
    assert done.status == 2
    assert str(path) in done.stderr
    assert HOSTILE[kind][1] in done.stderr
    assert not (good / RAN).exists()


@pytest.mark.parametrize("told", [True, False])
def test_all_of_them_in_one_folder_are_named_and_the_rest_is_converted(
    tiny_dataset: Path, good: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, told: bool
) -> None:
    """One image a kind; with the images' sizes, or with what the maps say of them."""
    good_ids = all_ids(tiny_dataset)
    hostile = {kind: of for kind, of in HOSTILE.items() if told or kind != "size"}
    shapes = {image_id: maps_for(tiny_dataset, image_id).shape[1:] for image_id in good_ids}
    for kind, (plant, _) in hostile.items():
        plant(good / f"{kind}.npy", maps_of(SIZE))
        shapes[kind] = SIZE
    sizes = tmp_path / "sizes.txt"
    sizes.write_text("".join(f"{i} {height} {width}\n" for i, (height, width) in shapes.items()))
    target = tmp_path / "converted"
    flags = ["--to", "irn", "--num_classes", "20", "--num_workers", "0"]
    flags += ["--sizes", str(sizes)] if told else []
    with bounded_memory(MAX_GROWTH):
        assert convert(["convert", str(good), str(target), *flags]) == 2
    for kind, (_, reason) in hostile.items():
        line = next(line for line in caplog.text.splitlines() if str(good / f"{kind}.npy") in line)
        assert reason in line
    assert {path.stem for path in target.glob("*.npy")} == set(good_ids)
    assert not (good / RAN).exists()


def huge_png(path: Path, _: np.ndarray) -> None:
    written = bytearray(path.read_bytes())
    written[16:24] = (50_000).to_bytes(4, "big") * 2
    path.write_bytes(written)


def two_headers(path: Path, maps: np.ndarray, side: int = 9000) -> None:
    """The first header fits the image, the second, which Pillow obeys, is that of the pixels."""
    Image.new("L", (side, side)).save(path)
    written = path.read_bytes()
    fields = struct.pack(">2I5B", *maps.shape[:0:-1], 8, 0, 0, 0, 0)
    first = b"IHDR" + fields
    fitting = struct.pack(">I", len(fields)) + first + struct.pack(">I", zlib.crc32(first))
    path.write_bytes(written[:8] + fitting + written[8:])


def two_headers_beyond_measure(path: Path, maps: np.ndarray) -> None:
    two_headers(path, maps)
    written = bytearray(path.read_bytes())
    second = slice(33 + 4, 33 + 21)
    written[33 + 8 : 33 + 16] = (20_000).to_bytes(4, "big") * 2
    written[33 + 21 : 33 + 25] = zlib.crc32(written[second]).to_bytes(4, "big")
    path.write_bytes(written)


def damaged_profile(path: Path, _: np.ndarray) -> None:
    """A colour profile without content behind the pixels, where Pillow looks for no damage."""
    written, kind = path.read_bytes(), b"iCCPx\0"
    chunk = struct.pack(">I", 2) + kind + struct.pack(">I", zlib.crc32(kind))
    path.write_bytes(written[:-12] + chunk + written[-12:])


def cut_png(path: Path, _: np.ndarray) -> None:
    path.write_bytes(path.read_bytes()[:60])


def linked_png(path: Path, _: np.ndarray) -> None:
    outside = path.rename(path.parent.parent / "outside.png")
    path.symlink_to(outside)


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (huge_png, "truncated or damaged"),
        (two_headers, "height 9000, width 9000"),
        (two_headers_beyond_measure, "truncated or damaged (Image size (400000000 pixels)"),
        (damaged_profile, "truncated or damaged"),
        (cut_png, "truncated or damaged"),
        (linked_png, "link out of its folder"),
    ],
)
def test_so_are_pngs(tiny_dataset: Path, tmp_path: Path, plant: Plant, reason: str) -> None:
    folder = tmp_path / "cams"
    folder.mkdir()
    for image_id in all_ids(tiny_dataset):
        WRITERS["oaa_png"](folder, image_id, [3], maps_for(tiny_dataset, image_id))
    first = all_ids(tiny_dataset)[0]
    path = folder / f"{first}_3.png"
    plant(path, maps_for(tiny_dataset, first))
    if plant is damaged_profile:
        skip_if_read(path)
    flags = ("--steps=eval_cam", f"--cam_out_dir={folder}")
    done = run_bounded(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 2
    assert str(path) in done.stderr
    assert reason in done.stderr


def npz_with(**members: Any) -> Plant:
    """An archive of FMA's arrays with further members, or others in their place."""
    return lambda path, maps: np.savez_compressed(
        path, **({"cam": maps[:, ::4, ::4], "fg_cls": np.array([3])} | members)
    )


def npz_with_code(path: Path, maps: np.ndarray) -> None:
    evil = np.array([Evil(path.parent / RAN)], dtype=object)
    npz_with(logits=evil)(path, maps)


def npz_with_a_path(path: Path, maps: np.ndarray) -> None:
    npz_with()(path, maps)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../ran.npy", b"")


def truncated_npz(path: Path, maps: np.ndarray) -> None:
    npz_with()(path, maps)
    os.truncate(path, 300)


def npz_that_lies(path: Path, maps: np.ndarray) -> None:
    """The directory says that the array is small; 100 MB of it are packed."""
    npz_with(cam=np.zeros(10**8, np.uint8))(path, maps)
    real, told = (struct.pack("<L", n) for n in (10**8 + 128, 1128))
    path.write_bytes(path.read_bytes().replace(real, told))


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (npz_with_code, "its array logits: it has an array of type O"),
        (npz_with_a_path, "it has a member named ../ran.npy"),
        (npz_with(logits=np.zeros(10**8, np.uint8)), "it would unpack to 100"),
        (npz_that_lies, "it is damaged (Bad CRC-32 for file 'cam.npy')"),
        (npz_with(cam=np.full((1, 6, 6), np.nan)), "NaN or infinite"),
        (npz_with(cam=np.full((1, 6, 6), -0.5)), "down to -0.5"),
        (truncated_npz, "truncated"),
        (lambda p, m: save(p.with_suffix(".npy"), content(m)).rename(p), "no .npz"),
        (lambda p, _: os.mkfifo(p), "not a regular file"),
    ],
)
def test_so_are_npz(tiny_dataset: Path, tmp_path: Path, plant: Plant, reason: str) -> None:
    folder = tmp_path / "cams"
    folder.mkdir()
    for image_id in all_ids(tiny_dataset):
        WRITERS["fma"](folder, image_id, [3], maps_for(tiny_dataset, image_id))
    path = folder / f"{all_ids(tiny_dataset)[0]}.npz"
    path.unlink()
    plant(path, maps_for(tiny_dataset, all_ids(tiny_dataset)[0]))
    flags = ("--steps=eval_cam", f"--cam_out_dir={folder}")
    done = run_bounded(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 2
    assert str(path) in done.stderr
    assert reason in done.stderr
    assert not (folder / RAN).exists()
    assert not (tmp_path / "ran.npy").exists()
