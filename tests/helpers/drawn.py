"""Drawn datasets of any classes: coloured boxes on noise, tags.csv, and no XML."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from misc.images import voc_palette, write_palette_png

SIZE = (64, 88)
BOX_HEIGHT = 28


def draw_boxes_dataset(
    root: Path, class_names: Sequence[str], shown: Sequence[Sequence[int]], num_val: int = 2
) -> list[str]:
    """Draw one image for each of `shown`, its classes (from 1) side by side in two rows.

    Returns:
        the image ids; the last `num_val` are the list val, the others train.
    """
    for name in ("JPEGImages", "SegmentationClass", "Sal", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(class_names) + "\n", encoding="utf-8")
    ids = [f"photo {number}" for number in range(len(shown))]
    for number, (image_id, classes) in enumerate(zip(ids, shown, strict=True)):
        rng = np.random.default_rng(number)
        mask = draw_mask(classes)
        image = voc_palette()[mask] * 0.7 + rng.normal(60, 25, (*SIZE, 3))
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
        write_palette_png(root / "SegmentationClass" / f"{image_id}.png", mask)
        saliency = Image.fromarray((mask > 0).astype(np.uint8) * 255)
        saliency.save(root / "Sal" / f"{image_id}.png")
    with open(root / "tags.csv", "w", encoding="utf-8", newline="") as file:
        rows = [
            [image_id, *(class_names[c - 1] for c in classes)]
            for image_id, classes in zip(ids, shown, strict=True)
        ]
        csv.writer(file).writerows([["id", "class"], *rows])
    for split, members in (("train", ids[:-num_val]), ("val", ids[-num_val:])):
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.write_text("\n".join(members) + "\n", encoding="utf-8")
    return ids


def draw_mask(classes: Sequence[int]) -> np.ndarray:
    """Class ids (H,W) of SIZE: a box for each of `classes`, in two rows."""
    mask = np.zeros(SIZE, np.uint8)
    columns = -(-len(classes) // 2)
    for place, class_id in enumerate(classes):
        row, column = divmod(place, columns)
        width = SIZE[1] // columns
        top, left = 2 + 32 * row, column * width
        mask[top : top + BOX_HEIGHT, left + 1 : left + width - 1] = class_id
    return mask
