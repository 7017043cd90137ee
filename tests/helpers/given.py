"""Results of every step, put there by somebody: so a step can be tried without the others."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from misc.images import read_mask, write_palette_png
from net.backbone import Backbone, build_backbone
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier
from net.deeplab_v2 import DeepLabV2
from tests.helpers.cam_writers import write_irn
from tests.helpers.regions import write_map

BACKBONE = "squeezenet1_0"
NUM_CLASSES = 20
FOLDERS = {
    "cam_out_dir": "cam",
    "cam_vis_dir": "cam_vis",
    "boundary_label_dir": "boundary_label",
    "walk_out_dir": "walk",
    "sem_seg_out_dir": "sem_seg",
    "refined_out_dir": "refined",
    "sam_root": "sam",
    "cam_weights_name": "cam.pth",
    "bes_weights_name": "bes.pth",
    "seg_weights_name": "seg.pth",
    "backbone_weights": "backbone.pth",
}
"""What a flag names -> where it lies below the folder."""
MARKS = {"cam.pth": 1.0, "bes.pth": 2.0, "seg.pth": 3.0, "backbone.pth": 4.0}
"""Value of a bias of the first layer, by which a backbone's weights are known."""


def write_given(root: Path, folder: Path) -> Path:
    """All of `FOLDERS` for the images of a drawn dataset, cheap and without any training."""
    for name in ("cam", "cam_vis", "boundary_label", "walk", "sem_seg", "refined", "sam"):
        (folder / name).mkdir(parents=True)
    for path in sorted((root / "SegmentationClass").glob("*.png")):
        _write_image(folder, path.stem, read_mask(path))
    torch.manual_seed(0)
    networks = {
        "cam.pth": CamClassifier(_backbone(), NUM_CLASSES),
        "bes.pth": BoundaryNetwork(_backbone()),
        "seg.pth": DeepLabV2(_backbone(), NUM_CLASSES + 1),
        "backbone.pth": _backbone(),
    }
    for name, network in networks.items():
        _first_bias(network).fill_(MARKS[name])
        torch.save(dict(network.state_dict()), folder / name)
    return folder


def start_of(network: nn.Module) -> str:
    """Which of the files a network's backbone has its weights of; "" for none."""
    marks = {mark: name for name, mark in MARKS.items()}
    return marks.get(float(_first_bias(network)[0]), "")


def _first_bias(network: nn.Module) -> torch.Tensor:
    return next(
        p for name, p in network.named_parameters() if name.endswith("features.0.bias")
    ).data


def _backbone() -> Backbone:
    return build_backbone(BACKBONE, fixed_batch_norm=True)


def _write_image(folder: Path, image_id: str, mask: np.ndarray) -> None:
    class_ids = np.setdiff1d(mask, [0, 255])
    maps = np.stack([(mask == c).astype(np.float32) for c in class_ids])
    write_irn(folder / "cam", image_id, [int(c) - 1 for c in class_ids], maps)
    write_irn(folder / "walk", image_id, [int(c) - 1 for c in class_ids], 0.9 * maps)
    write_palette_png(folder / "cam_vis" / f"{image_id}.png", mask)
    for name in ("sem_seg", "refined"):
        for suffix in (".png", "_crf.png"):
            write_palette_png(folder / name / f"{image_id}{suffix}", np.where(mask == 255, 0, mask))
    codes = np.where(mask == 255, 150, np.where(mask > 0, 50, 0)).astype(np.uint8)
    Image.fromarray(codes).save(folder / "boundary_label" / f"{image_id}.png")
    write_map(folder / "sam", image_id, [mask == 0, mask > 0])


def given_flags(folder: Path, *names: str) -> list[str]:
    """The flags of these names, which lead there."""
    return [f"--{name}={folder / FOLDERS[name]}" for name in names]
