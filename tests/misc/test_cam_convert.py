import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from misc import cam_convert
from misc.cam_convert import main
from misc.cam_files import CamFolder, Cams, cam_path, write_irn

ROOT = Path(__file__).parents[2]
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
    with pytest.raises(KeyboardInterrupt):
        convert(source, target, to="png")
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
    assert "asks for (3, 3, 3)" in caplog.text
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
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / f"{IDS[0]}_7.png").write_bytes(b"of another set")
    refused(caplog, f"{IDS[0]}_7.png, a class", source, tmp_path / "png", to="png")
    assert convert(source, tmp_path / "png", "--overwrite", to="png") == 0


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
        (["--sizes"], "nonsense", "Its lines are: <id> <height> <width>"),
        (["--sizes"], "a 0 5", "Its lines are"),
        (["--sizes"], f"{IDS[0]} 20 31", "no size of b.c_1"),
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
    refused(caplog, "one folder", source, source)
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
