"""The README's commands for one's own data, COCO and DeepLab-v2 run as they stand there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.coco import every_kind
from tests.helpers.drawn import draw_boxes_dataset
from tests.helpers.onnx_models import brightness_model
from tests.helpers.paths import ROOT
from tests.helpers.segmentation import SEG_FLAGS
from tests.helpers.tiny import TINY_FLAGS, copy_dataset

# Only what makes the networks small: what is learnt from is as the command says.
SMALL = [
    *TINY_FLAGS,
    *(flag for flag in SEG_FLAGS if not flag.startswith("--seg_label_dir")),
    "--cam_scales=1",
    "--seg_test_scales=1",
]


README_TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def commands_below(start: str, end: str) -> list[list[str]]:
    """The commands of the README between two of its lines, word by word."""
    part = README_TEXT[README_TEXT.index(start) :]
    part = part[: part.index(end, len(start))]
    blocks = re.findall(r"```bash\n(.*?)```", part, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def type_in(folder: Path, words: list[str], *flags: str) -> str:
    """Run a command of the README in `folder` with small networks; what it wrote to stdout."""
    assert words[0] == ".venv/bin/python"
    words = [sys.executable, *words[1:]]
    if words[1] == "run_sample.py":
        words = [words[0], str(ROOT / words[1]), *words[2:], *SMALL, *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def masks_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.png")}


def both_masks(ids: list[str]) -> set[str]:
    return {f"{image_id}{ending}.png" for image_id in ids for ending in ("", "_crf")}


@pytest.mark.slow
def test_ones_own_photographs_become_a_dataset_and_masks(tmp_path: Path) -> None:
    shown = [[1, 2], [], [1], [2], [2, 1], [1]]
    ids = draw_boxes_dataset(tmp_path / "drawn", ("mug", "spoon"), shown)
    os.rename(tmp_path / "drawn" / "JPEGImages", tmp_path / "photos")
    data = tmp_path / "mydata"
    said = {}
    network = tmp_path / "network.onnx"  # in place of the download
    network.write_bytes(brightness_model())
    for words in commands_below("## Your data", "## Steps"):
        flags = [f"--saliency_model={network}"] if "make" in words else []
        said[words[2]] = type_in(tmp_path, words, *flags)
        if words[2] == "voc12.init":  # what it says is left to do
            for name in ("classes.txt", "tags.csv"):
                shutil.copy(tmp_path / "drawn" / name, data / name)
    assert {"voc12.init", "voc12.check", "--data_root"} <= said.keys()
    advised = said["voc12.check"].partition("Next:\n")[2].strip()
    assert shlex.split(advised)[1:] == commands_below("## Your data", "## Steps")[-1][1:]
    assert masks_in(tmp_path / "result" / "sem_seg") == both_masks(ids)
    assert masks_in(tmp_path / "result" / "saliency") == {f"{image_id}.png" for image_id in ids}


@pytest.mark.slow
def test_coco_becomes_a_dataset_and_masks(tmp_path: Path) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    (tmp_path / "annotations").mkdir()
    os.rename(coco.path, tmp_path / "annotations" / coco.path.name)
    maps = tmp_path / "COCO_Sal"
    maps.mkdir()
    for path in coco.images_dir.iterdir():
        with Image.open(path) as picture:
            Image.new("L", picture.size, 255).save(maps / f"{path.stem}.png")
    for words in commands_below("Use COCO", "Train DeepLab-v2"):
        type_in(tmp_path, words)
    ids = (tmp_path / "COCO" / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    assert masks_in(tmp_path / "result" / "sem_seg") == both_masks(ids)


@pytest.mark.slow
def test_deeplab_learns_from_the_masks_of_voc_as_unpacked(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    copy_dataset(tiny_dataset, root)
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train_aug.txt").unlink()
    (lists / "trainval.txt").write_text("".join(p.read_text() for p in sorted(lists.iterdir())))
    (words,) = commands_below("Train DeepLab-v2", "Find the best")
    said = type_in(tmp_path, words)
    ids = (lists / "val.txt").read_text().split()
    for checkpoint in ("last", "best"):
        assert masks_in(tmp_path / "result" / "seg" / "val" / checkpoint) == both_masks(ids)
    assert re.search(r"eval_seg +done .*last mIoU", said)
