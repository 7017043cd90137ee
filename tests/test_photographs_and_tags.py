"""Photographs and tags alone are enough: one command, from 30 real photographs to their masks."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import run_sample
from misc.images import image_size, read_mask
from misc.saliency import read_saliency
from voc12.classes import VOC_CLASSES
from voc12.files import VocDataset
from voc12.image_labels import class_ids_of, read_tags
from voc12.lists import split_ids

FLAGS = [
    "--backbone=squeezenet1_0",
    "--cam_momentum=0.9", "--cam_learning_rate=0.01", "--cam_num_epoches=2", "--cam_crop_size=224",
    "--cam_resize_long=224,320", "--cam_scales=1", "--bes_momentum=0.9", "--bes_num_epoches=1",
    "--bes_crop_size=224", "--device=cpu",
]  # fmt: skip


@pytest.fixture
def photographs(shared_data: Path, tmp_path: Path) -> Path:
    """30 photographs in a dataset of the smallest layout: no saliency maps, no masks."""
    source = VocDataset.open(shared_data / "voc12_animals")
    ids = split_ids(source, "train")[:30]
    root = tmp_path / "mydata"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(ids) + "\n")
    (root / "classes.txt").write_text("\n".join(VOC_CLASSES) + "\n")
    tags = read_tags(source, ids, "xml")
    with open(root / "tags.csv", "w", newline="") as file:
        rows = [[i, *(VOC_CLASSES[c - 1] for c in class_ids_of(tags[i]))] for i in ids]
        csv.writer(file).writerows([["id", "class"], *rows])
    for image_id in ids:
        shutil.copy(source.image_path(image_id), root / "JPEGImages")
    return root


@pytest.mark.slow
def test_one_command_makes_maps_and_masks(
    photographs: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = shared_data / "weights"
    command = [
        f"--data_root={photographs}", f"--out_dir={tmp_path / 'out'}", "--saliency=make",
        f"--saliency_model={weights / 'csnet_l_x2.onnx'}",
        "--saliency_supervision=CSNet-L x2, trained with pixel masks of DUTS-TR",
        f"--backbone_weights={weights / 'squeezenet1_0_imagenet.pth'}", *FLAGS,
    ]  # fmt: skip
    assert run_sample.main(command) == 0, capsys.readouterr().err
    dataset, out_dir = VocDataset.open(photographs), tmp_path / "out"
    ids = split_ids(dataset, "train")
    for image_id in ids:
        size = image_size(dataset.image_path(image_id))
        assert read_saliency(out_dir / "saliency" / f"{image_id}.png").shape == size
        for ending in ("", "_crf"):
            assert read_mask(out_dir / "sem_seg" / f"{image_id}{ending}.png").shape == size
    masks = [read_mask(out_dir / "sem_seg" / f"{image_id}.png") for image_id in ids]
    assert len({value for mask in masks for value in np.unique(mask).tolist()}) > 3
    scores = json.loads((out_dir / "scores.json").read_text())
    assert scores["make_saliency"]["supervision"].startswith("CSNet-L x2")
    settings = json.loads((out_dir / "run.json").read_text())["settings"]
    assert settings["sal_bg_thres"] == 0.1
