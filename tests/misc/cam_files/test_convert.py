import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from misc.cam_files import CamFolder, Cams, write_irn
from misc.cam_files import convert as cam_convert
from misc.cam_files.convert import main
from misc.cam_files.dialects import SIZELESS
from misc.cam_files.files import cam_path
from tests.helpers.cam_writers import WRITERS, save
from tests.helpers.paths import ROOT

SIZE = (20, 31)
IDS = ["2007_000032", "b.c_1", "größe", "no class"]
CLASSES = [[1, 15], [20], [3, 4, 9], []]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of IRN files, with images that tell their sizes beside it."""
    rng = np.random.default_rng(0)
    for folder in ("source", "images"):
        (tmp_path / folder).mkdir()
    for image_id, classes in zip(IDS, CLASSES, strict=True):
        high_res = rng.integers(0, 256, (len(classes), *SIZE)).astype(np.float32) / 255
        cams = Cams(np.array(classes, np.int64), high_res[:, ::4, ::4], high_res)
        with open(cam_path(tmp_path / "source", image_id), "wb") as file:
            write_irn(file, cams)
        Image.new("RGB", (SIZE[1], SIZE[0])).save(tmp_path / "images" / f"{image_id}.jpg")
    return tmp_path / "source"


def convert(source: Path, target: Path, *more: str, to: str = "irn", workers: int = 0) -> int:
    sizes = [] if "--sizes" in more else ["--image_root", str(source.parent / "images")]
    flags = ["--to", to, "--num_classes", "20", "--num_workers", str(workers), *sizes, *more]
    return main(["convert", str(source), str(target), *flags])


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_to_png_and_back(source: Path, tmp_path: Path) -> None:
    assert convert(source, tmp_path / "png", to="png") == 0
    names = {name for name in folder_bytes(tmp_path / "png") if name.endswith(".png")}
    assert names == {
        f"{image_id}_{c - 1}.png"
        for image_id, classes in zip(IDS, CLASSES, strict=True)
        for c in classes
    }
    assert convert(tmp_path / "png", tmp_path / "irn", "--cam_format", "oaa_png") == 0
    before, after = (CamFolder(f, num_classes=20) for f in (source, tmp_path / "irn"))
    assert after.ids() == sorted(IDS[:3])
    for image_id in IDS[:3]:
        expected, cams = before.read(image_id, SIZE), after.read(image_id, SIZE)
        np.testing.assert_array_equal(cams.class_ids, expected.class_ids)
        np.testing.assert_array_equal(cams.high_res, expected.high_res)


@pytest.mark.slow
def test_workers_write_the_same_bytes(source: Path, tmp_path: Path) -> None:
    assert convert(source, tmp_path / "one") == 0
    assert convert(source, tmp_path / "two", workers=2) == 0
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "two")
    for image_id in IDS:
        path = cam_path(source, image_id)
        assert (tmp_path / "one" / path.name).read_bytes() == path.read_bytes()


def test_a_second_run_goes_on_where_the_first_stopped(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    original = cam_convert.write_png

    def stop_after_three(file: Any, maps: np.ndarray) -> None:
        if len(written) == 3:
            file.write(b"half a file")
            raise KeyboardInterrupt
        written.append(file.name)
        original(file, maps)

    target = tmp_path / "png"
    monkeypatch.setattr(cam_convert, "write_png", stop_after_three)
    assert convert(source, target, to="png") == 130
    first = {name: (target / name).stat().st_mtime_ns for name in os.listdir(target)}
    assert len([name for name in first if name.endswith(".png")]) == 3
    (target / f".left.png.{os.getpid()}.partial").write_bytes(b"by kill -9")
    monkeypatch.undo()
    assert convert(source, target, to="png") == 0
    after = {name: (target / name).stat().st_mtime_ns for name in os.listdir(target)}
    assert {name: after[name] for name in first} == first
    assert convert(source, tmp_path / "at once", to="png") == 0
    assert folder_bytes(target) == folder_bytes(tmp_path / "at once")


def test_finished_files_are_not_read_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "irn"
    assert convert(source, target) == 0
    whole = folder_bytes(target)
    cam_path(source, IDS[0]).write_bytes(b"broken since")
    cam_path(target, IDS[1]).unlink()
    assert convert(source, target) == 0
    assert folder_bytes(target) == whole
    assert convert(source, target, "--overwrite") == 2


def refused(caplog: pytest.LogCaptureFixture, reason: str, *arguments: Any, **more: Any) -> None:
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        assert convert(*arguments, **more) == 2
    assert reason in caplog.text


def test_bad_files_are_named_and_the_others_converted(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cam_path(source, IDS[0]).write_bytes(b"broken")
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / f"{IDS[2]}.jpg")
    refused(caplog, "2 of 4 images have problems", source, tmp_path / "irn")
    assert f"{IDS[0]}.npy is not read" in caplog.text
    assert "needs (3, 3, 3)" in caplog.text
    assert CamFolder(tmp_path / "irn", num_classes=20).ids() == [IDS[1], IDS[3]]


def test_other_settings_than_the_first_run_s_are_refused(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "out"
    assert convert(source, target, to="png") == 0
    refused(caplog, "--to was png, is irn", source, target)
    assert convert(source, target, "--overwrite") == 0
    assert CamFolder(target, num_classes=20).ids() == sorted(IDS)


def test_a_class_of_another_set_in_the_target_is_refused(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert convert(source, tmp_path / "png", to="png") == 0
    (tmp_path / "png" / f"{IDS[0]}_7.png").write_bytes(b"of another set")
    refused(caplog, f"{IDS[0]}_7.png, a class", source, tmp_path / "png", to="png")
    assert convert(source, tmp_path / "png", "--overwrite", to="png") == 0


@pytest.mark.parametrize(("to", "name"), [("png", f"{IDS[0]}_7.png"), ("irn", f"{IDS[1]}.npy")])
def test_files_of_somebody_else_are_neither_taken_nor_deleted(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, to: str, name: str
) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / name).write_bytes(b"of another set")
    reason = f"{target / name} is there, and was not made here. Choose another DST."
    refused(caplog, reason, source, target, to=to)
    refused(caplog, reason, source, target, "--overwrite", to=to)
    assert folder_bytes(target) == {name: b"of another set"}


@pytest.mark.parametrize("flag", ["--list", "--sizes"])
def test_a_pipe_is_refused_instead_of_waited_for(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, flag: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reason = f"{tmp_path}/pipe cannot be read: it is not a regular file."
    refused(caplog, reason, source, tmp_path / "out", flag, str(tmp_path / "pipe"))


def test_sizes_list_and_tags(source: Path, tmp_path: Path) -> None:
    sizes, chosen, tags = (tmp_path / name for name in ("sizes.txt", "list.txt", "tags.npy"))
    sizes.write_text("".join(f"{i} {SIZE[0]} {SIZE[1]}\n" for i in IDS), encoding="utf-8")
    chosen.write_text(f"{IDS[0]} 0 14\n\n{IDS[2]} 2\n", encoding="utf-8")
    hot = np.zeros(20, np.float32)
    hot[[2, 8, 14]] = 1
    np.save(tags, np.array({IDS[0]: hot, IDS[2]: hot}, dtype=object), allow_pickle=True)
    more = ["--sizes", str(sizes), "--list", str(chosen), "--tags", str(tags)]
    assert convert(source, tmp_path / "out", *more) == 0
    folder = CamFolder(tmp_path / "out", num_classes=20)
    assert folder.ids() == sorted([IDS[0], IDS[2]])
    assert folder.read(IDS[0], SIZE).class_ids.tolist() == [15]
    assert folder.read(IDS[2], SIZE).class_ids.tolist() == [3, 9]


@pytest.mark.parametrize(
    ("flags", "content", "reason"),
    [
        (["--sizes"], "nonsense", "Its lines must be: <id> <height> <width>"),
        (["--sizes"], "a 0 5", "Its lines must be"),
        (["--sizes"], f"{IDS[0]} 20 31", "no size for b.c_1"),
        (["--list"], "nobody", "no CAM for nobody"),
        (["--image_root"], None, "cannot be read"),
        (["--list"], None, "cannot be read"),
        (["--tags"], None, "No file"),
    ],
)
def test_bad_inputs_are_named(
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    flags: Sequence[str],
    content: str | None,
    reason: str,
) -> None:
    path = tmp_path / "file.txt"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    refused(caplog, reason, source, tmp_path / "out", *flags, str(path))


def test_bad_folders_are_named(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused(caplog, "cannot be read", tmp_path / "nowhere", tmp_path / "out")
    refused(caplog, "the same folder", source, source)
    refused(caplog, "holds no CAMs", tmp_path / "images", tmp_path / "out")


def test_the_command_line(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "misc.cam_files", "convert", str(source)]
    command += [str(tmp_path / "out"), "--to", "irn", "--num_classes", "20"]
    command += ["--image_root", str(tmp_path / "images"), "--num_workers", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "converted 4 images" in done.stderr
    assert CamFolder(tmp_path / "out", num_classes=20).ids() == sorted(IDS)
    helped = subprocess.run([*command[:4], "--help"], cwd=ROOT, capture_output=True, text=True)
    assert "--cam_format {auto,irn,amn,sipe,toco" in helped.stdout


def test_the_shortest_command_line(source: Path, tmp_path: Path) -> None:
    """VOC's classes, and sizes as the maps themselves have them."""
    command = [sys.executable, *["-m", "misc.cam_files", "convert"], str(source)]
    command += [str(tmp_path / "out"), "--to", "irn"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 of 4 images have no class" in done.stderr
    for image_id in IDS[:3]:
        path = cam_path(source, image_id)
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    without = CamFolder(tmp_path / "out", num_classes=20).read(IDS[3], SIZE)
    assert without.high_res.shape == (0, *SIZE)


def short(source: Path, target: Path, *flags: str, to: str = "irn") -> int:
    return main(["convert", str(source), str(target), "--to", to, "--num_workers", "0", *flags])


@pytest.mark.parametrize("to", ["irn", "png"])
@pytest.mark.parametrize("cam_format", [name for name in WRITERS if name not in SIZELESS])
def test_every_dialect_with_full_size_maps_tells_the_size(
    tmp_path: Path, cam_format: str, to: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    maps = np.random.default_rng(0).integers(0, 256, (2, *SIZE)).astype(np.float32) / 255
    maps /= maps.max(axis=(1, 2), keepdims=True)
    WRITERS[cam_format](source, "x", [1, 14], maps)
    flags = ["--cam_format", cam_format]
    assert short(source, tmp_path / "told", *flags, to=to) == 0
    (tmp_path / "sizes.txt").write_text(f"x {SIZE[0]} {SIZE[1]}")
    flags += ["--sizes", str(tmp_path / "sizes.txt")]
    assert short(source, tmp_path / "given", *flags, to=to) == 0
    assert folder_bytes(tmp_path / "told") == folder_bytes(tmp_path / "given")


def lacks_a_size(path: Path, kind: str) -> None:
    cams = Cams(np.array([3]), np.ones((1, 5, 8), np.float32), np.ones((1, *SIZE), np.float32))
    if kind == "drs":
        return WRITERS["drs"](path, "x", [2], cams.high_res)
    if kind == "flat":
        save(path / "x.npy", {"keys": [2], "high_res": np.ones((1, 0, 9), np.float32)})
    elif kind == "vast":
        Image.new("L", (5000, 5000)).save(path / "x_2.png")
    elif kind == "no PNG":
        (path / "x_2.png").write_bytes(b"no picture" * 9)
    else:
        with open(path / "x.npy", "wb") as file:
            write_irn(file, cams, high_res=False)
    return None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("drs", "drs files do not record the image size. Pass --image_root or --sizes"),
        ("small", "no full-size maps, which would give the image size. Pass --image_root"),
        ("vast", "its image would be of height 5000, width 5000: too large. Pass --image_root"),
        ("flat", "without a pixel"),
        ("no PNG", "x_2.png is not a readable picture"),
    ],
)
def test_who_does_not_tell_the_size_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, reason: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    lacks_a_size(source, kind)
    assert short(source, tmp_path / "out") == 2
    assert reason in caplog.text
    assert str(source / "x") in caplog.text


def test_a_dialect_that_needs_sizes_says_so_before_anything_is_read(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert short(source, tmp_path / "out", "--cam_format", "drs") == 2
    assert "--image_root, the folder of the images, or --sizes" in caplog.text
    assert not (tmp_path / "out").exists()


def test_more_classes_than_usual_are_asked_for_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "source").mkdir()
    WRITERS["irn"](tmp_path / "source", "x", [56], np.ones((1, *SIZE), np.float32))
    assert short(tmp_path / "source", tmp_path / "out") == 2
    assert "the unknown class 56" in caplog.text
    assert "--num_classes" in caplog.text
    assert short(tmp_path / "source", tmp_path / "more", "--num_classes", "80") == 0


BLANK = "photo 1"


@pytest.fixture
def with_blank(source: Path) -> Path:
    """An id with a blank, beside one that is its first word."""
    for image_id, of in ((BLANK, IDS[0]), ("photo", IDS[1])):
        shutil.copy(cam_path(source, of), cam_path(source, image_id))
    return source


@pytest.mark.parametrize("line", [BLANK, f"  {BLANK}\r", f"{BLANK}\n{BLANK}"])
def test_a_line_of_a_list_is_an_id_where_there_is_such_an_image(
    with_blank: Path, tmp_path: Path, line: str
) -> None:
    (tmp_path / "list.txt").write_text(f"\ufeff{line}\n{IDS[2]} 2 3 8\n", encoding="utf-8")
    assert short(with_blank, tmp_path / "out", "--list", str(tmp_path / "list.txt")) == 0
    folder = CamFolder(tmp_path / "out", num_classes=20)
    assert folder.ids() == sorted([BLANK, IDS[2]])
    assert folder.read(BLANK, SIZE).class_ids.tolist() == CLASSES[0]


def test_a_line_with_more_than_the_id_goes_by_its_first_word(
    with_blank: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("photo 19\n")
    assert short(with_blank, tmp_path / "out", "--list", str(tmp_path / "list.txt")) == 0
    assert CamFolder(tmp_path / "out", num_classes=20).ids() == ["photo"]


def test_images_without_classes_have_no_png_and_come_back_by_a_list(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cam_path(source, IDS[3]).rename(cam_path(source, f"{BLANK} too"))
    with caplog.at_level(logging.INFO):
        assert short(source, tmp_path / "png", to="png") == 0
    assert "1 of 4 images have no class" in caplog.text
    assert "--cam_format oaa_png and a list of all the images" in caplog.text
    ids = [*IDS[:3], f"{BLANK} too"]
    chosen, sizes = tmp_path / "list.txt", tmp_path / "sizes.txt"
    chosen.write_text("\n".join(ids), encoding="utf-8")
    sizes.write_text("".join(f"{i} {SIZE[0]} {SIZE[1]}\n" for i in ids), encoding="utf-8")
    flags = ["--list", str(chosen), "--sizes", str(sizes)]
    assert short(tmp_path / "png", tmp_path / "auto", *flags) == 2  # it takes nothing for granted
    assert f"no CAM for {ids[3]}" in caplog.text
    assert short(tmp_path / "png", tmp_path / "irn", *flags, "--cam_format", "oaa_png") == 0
    for image_id in ids:
        name = cam_path(source, image_id).name
        expected = CamFolder(source, num_classes=20).read(image_id, SIZE)
        cams = CamFolder(tmp_path / "irn", num_classes=20).read(image_id, SIZE)
        np.testing.assert_array_equal(cams.class_ids, expected.class_ids, err_msg=name)
        np.testing.assert_array_equal(cams.high_res, expected.high_res, err_msg=name)


def test_an_image_of_which_the_list_names_classes_is_not_without(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert short(source, tmp_path / "png", to="png") == 0
    (tmp_path / "list.txt").write_text(f"{IDS[0]} 0 14\nlost 2\n")
    flags = ["--cam_format", "oaa_png", "--list", str(tmp_path / "list.txt")]
    assert short(tmp_path / "png", tmp_path / "irn", *flags) == 2
    assert "no CAM for lost" in caplog.text
