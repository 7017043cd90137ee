"""Sets of CAMs and saliency maps for the tiny dataset, made from its exact masks in no time."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from misc.images import read_mask
from voc12.files import VocDataset
from voc12.lists import split_ids

Map = NDArray[np.floating]


def all_ids(root: Path) -> list[str]:
    dataset = VocDataset.open(root)
    return [*split_ids(dataset, "train"), *split_ids(dataset, "val")]


def write_map(path: Path, values: Map) -> None:
    """Values 0..1 as an 8-bit gray PNG."""
    Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)).save(path)


def write_cam_set(root: Path, folder: Path, *, blur: float, noise: float, seed: int = 0) -> Path:
    """`<id>_<c>.png` for every image: its classes' masks, blurred and disturbed."""
    dataset, rng = VocDataset.open(root), np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for image_id in all_ids(root):
        mask = read_mask(dataset.mask_path(image_id))
        for class_id in np.unique(mask[(mask > 0) & (mask < 255)]).tolist():
            disturbed = (mask == class_id) + noise * rng.standard_normal(mask.shape)
            cam = np.clip(ndimage.gaussian_filter(disturbed, blur), 0, None)
            write_map(folder / f"{image_id}_{class_id - 1}.png", cam / max(cam.max(), 1e-6))
    return folder


def write_saliency_set(
    root: Path, folder: Path, *, blur: float = 1.0, inverse: bool = False
) -> Path:
    """`<id>.png` for every image: the foreground, blurred, or its inverse."""
    dataset = VocDataset.open(root)
    folder.mkdir(parents=True)
    for image_id in all_ids(root):
        mask = read_mask(dataset.mask_path(image_id))
        saliency = ndimage.gaussian_filter(((mask > 0) & (mask < 255)).astype(float), blur)
        write_map(folder / f"{image_id}.png", 1 - saliency if inverse else saliency)
    return folder
