"""Masks of other methods become PNGs of class ids: scores of networks, colours, ids."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from misc.images import read_mask, voc_palette, write_palette_png
from misc.mask_files.convert import main
from tests.helpers.cam_writers import save
from tests.helpers.paths import ROOT

MASK = np.array([[0, 3, 3], [20, 0, 1]], np.uint8)


def scores_of(mask: np.ndarray, num_classes: int = 20) -> np.ndarray:
    """Scores (1,C+1,H,W), as a network gives them, whose highest channel is the mask."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (num_classes + 1, *mask.shape)).astype(np.float32)
    highest = scores.max(axis=0) + 1
    np.put_along_axis(scores, mask[None].astype(np.int64), highest[None], axis=0)
    return scores[None]


def convert(source: Path, target: Path, *flags: str) -> int:
    return main([str(source), str(target), "--num_workers", "0", *flags])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


KINDS: dict[str, Any] = {
    "dupl": {"msc_seg": scores_of(MASK)},
    "a tensor": {"msc_seg": torch.from_numpy(scores_of(MASK))},
    "half": {"segs": scores_of(MASK).astype(np.float16)},
    "one image": {"msc_segs": scores_of(MASK)[0]},
    "both": {"segs": scores_of(0 * MASK), "msc_segs": scores_of(MASK)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_class_with_the_highest_score_wins(source: Path, tmp_path: Path, kind: str) -> None:
    save(source / "größe 1.npy", KINDS[kind])
    assert convert(source, tmp_path / "out") == 0
    with Image.open(tmp_path / "out" / "größe 1.png") as picture:
        assert picture.mode == "P"
        assert np.array(picture).tolist() == MASK.tolist()
        assert picture.getpalette()[9:12] == [128, 128, 0]


def test_of_equal_scores_the_lower_class_wins(source: Path, tmp_path: Path) -> None:
    save(source / "a.npy", {"segs": np.zeros((1, 21, 2, 2), np.float32)})
    assert convert(source, tmp_path / "out") == 0
    assert read_mask(tmp_path / "out" / "a.png").tolist() == [[0, 0], [0, 0]]


def test_colours_and_ids_become_ids(source: Path, tmp_path: Path) -> None:
    mask = MASK.copy()
    mask[0, 0] = 255
    Image.fromarray(voc_palette()[mask]).save(source / "rgb.png")
    Image.fromarray(mask).save(source / "gray.png")
    write_palette_png(source / "palette.png", mask)
    assert convert(source, tmp_path / "out") == 0
    for name in ("rgb", "gray", "palette"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.mode == "P"
            assert np.array(picture).tolist() == mask.tolist()


def test_coco_has_more_classes(source: Path, tmp_path: Path) -> None:
    mask = MASK.copy()
    mask[0, 0] = 80
    save(source / "a.npy", {"segs": scores_of(mask, 80)})
    Image.fromarray(voc_palette()[mask]).save(source / "b.png")
    assert convert(source, tmp_path / "out", "--num_classes", "80") == 0
    for name in ("a", "b"):
        assert read_mask(tmp_path / "out" / f"{name}.png").tolist() == mask.tolist()


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def nan_scores() -> np.ndarray:
    scores = scores_of(MASK)
    scores[0, 3, 1, 1] = np.nan
    return scores


BAD: dict[str, tuple[Any, str]] = {
    "classes": ({"segs": scores_of(MASK, 80)}, "segs has 81 channels, but 20 classes and the"),
    "integers": ({"segs": MASK}, "segs is uint8 (2, 3), not scores (1, classes, height, width)"),
    "batch": ({"segs": np.zeros((2, 21, 2, 2))}, "segs is float64 (2, 21, 2, 2), not scores"),
    "flat": ({"segs": np.zeros((1, 21, 0, 2))}, "not scores"),
    "nan": ({"msc_seg": nan_scores()}, "msc_seg has NaN"),
    "cams": ({"keys": [3], "high_res": np.ones((1, 2, 3))}, "holds no scores of a segmentation"),
    "list": ([1, 2], "holds no scores of a segmentation network: a dict with msc_seg"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_scores_are_named_and_the_others_converted(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    content, reason = BAD[kind]
    save(source / "bad.npy", content)
    save(source / "good.npy", {"segs": scores_of(MASK)})
    with caplog.at_level(logging.ERROR):
        assert convert(source, tmp_path / "out") == 2
    assert "1 of 2 files have problems" in caplog.text
    assert f"{source / 'bad.npy'}" in caplog.text
    assert reason in caplog.text
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"good.png"}


def test_hostile_scores_are_not_run(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(source / "a.npy", {"segs": scores_of(MASK), "more": Evil(tmp_path / "ran")})
    assert convert(source, tmp_path / "out") == 2
    assert "system, which is neither array nor tensor" in caplog.text
    assert not (tmp_path / "ran").exists()


def test_other_colours_and_classes_are_refused_by_name(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    colours = voc_palette()[MASK]
    colours[1, 2] = (128, 0, 1)
    Image.fromarray(colours).save(source / "near.png")
    write_palette_png(source / "beyond.png", np.full((2, 2), 21, np.uint8))
    assert convert(source, tmp_path / "out") == 2
    assert "near.png has the colour (128, 0, 1) in row 1, column 2, which is none" in caplog.text
    assert "beyond.png has the class 21, but there are 20" in caplog.text


def test_it_goes_on_where_it_stopped_and_refuses_other_settings(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "out"
    for name in ("a", "b"):
        save(source / f"{name}.npy", {"segs": scores_of(MASK)})
    assert convert(source, target) == 0
    before = (target / "a.png").stat().st_mtime_ns
    (target / "b.png").unlink()
    assert convert(source, target) == 0
    assert (target / "a.png").stat().st_mtime_ns == before
    assert (target / "b.png").exists()
    assert convert(source, target, "--num_classes", "30") == 2
    assert "--num_classes was 20, is 30" in caplog.text
    save(source / "a.npy", {"segs": scores_of(0 * MASK)})
    assert convert(source, target, "--overwrite") == 0
    assert read_mask(target / "a.png").max() == 0


@pytest.mark.parametrize(
    ("prepare", "flags", "reason"),
    [
        (lambda folder: None, [], "holds no masks: neither <id>.npy nor <id>.png"),
        (lambda folder: folder.rmdir(), [], "cannot be read"),
        (lambda folder: [(folder / f"a.{s}").touch() for s in ("npy", "png")], [], "both a.npy"),
        (
            lambda folder: (folder / "a.npy").touch(),
            ["--num_classes", "255"],
            "at most 254 classes",
        ),
    ],
)
def test_bad_folders_and_flags_are_named(
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    prepare: Any,
    flags: list[str],
    reason: str,
) -> None:
    prepare(source)
    assert convert(source, tmp_path / "out", *flags) == 2
    assert reason in caplog.text
    assert not (tmp_path / "out").exists()


def test_masks_of_somebody_else_are_neither_taken_nor_deleted(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(source / "a.npy", {"segs": scores_of(MASK)})
    target = tmp_path / "mine"
    target.mkdir()
    (target / "a.png").write_bytes(b"mine")
    for flags in ([], ["--overwrite"]):
        caplog.clear()
        assert convert(source, target, *flags) == 2
        assert f"{target}/a.png is there, and was not made here. Choose another" in caplog.text
    assert [path.read_bytes() for path in target.iterdir()] == [b"mine"]


def test_source_and_target_differ(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(source / "a.npy", {"segs": scores_of(MASK)})
    assert convert(source, source) == 2
    assert "the same folder" in caplog.text


def test_the_command_line(source: Path, tmp_path: Path) -> None:
    save(source / "a.npy", {"segs": scores_of(MASK)})
    command = [sys.executable, "-m", "misc.mask_files", str(source), str(tmp_path / "out")]
    command += ["--num_workers", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "converted 1 masks into" in done.stderr
    assert read_mask(tmp_path / "out" / "a.png").tolist() == MASK.tolist()
