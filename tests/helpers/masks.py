"""A dataset of two tiny images with exact masks, and folders of masks to score against them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from misc.images import write_palette_png

Rows = Sequence[Sequence[int]]
TRUTH: dict[str, Rows] = {"a": [[0, 0, 1, 1], [0, 0, 1, 255]], "b": [[2, 2, 0, 0], [2, 2, 0, 0]]}


def write_masks(folder: Path, masks: Mapping[str, Rows], suffix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for image_id, rows in masks.items():
        write_palette_png(folder / f"{image_id}{suffix}.png", np.array(rows, np.uint8))
    return folder


def write_dataset(root: Path) -> Path:
    """Two images, a cup and a spoon; nothing but what scores need."""
    write_masks(root / "SegmentationClass", TRUTH)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\nb\n")
    (root / "classes.txt").write_text("cup\nspoon\nfork\n")
    return root
