"""Regions as Segment Anything's users write them, made from masks; and a stand-in for SAM."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

Region = NDArray[np.bool_]


def rle_of(region: Region, *, compressed: bool = True) -> dict[str, Any]:
    """COCO's run lengths, by pycocotools or counted here."""
    if compressed:
        rle = coco_mask.encode(np.asfortranarray(region.astype(np.uint8)))
        return {"size": list(region.shape), "counts": rle["counts"].decode()}
    column = np.concatenate([[0], region.T.ravel().astype(int), [2]])
    ends = np.flatnonzero(np.diff(column) != 0)
    counts = np.diff(ends, prepend=0).tolist()
    return {"size": list(region.shape), "counts": counts}


def write_pngs(root: Path, image_id: str, regions: Sequence[Region]) -> Path:
    """`<id>/<k>.png` and `metadata.csv`, as amg.py writes them."""
    folder = root / image_id
    folder.mkdir(parents=True)
    lines = ["id,area,predicted_iou,stability_score"]
    for number, region in enumerate(regions):
        Image.fromarray(region.astype(np.uint8) * 255).save(folder / f"{number}.png")
        lines.append(f"{number},{int(region.sum())},0.9,0.95")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


def write_json(
    root: Path, image_id: str, regions: Sequence[Region], *, compressed: bool = True
) -> Path:
    """`<id>.json`, as amg.py writes it with --convert-to-rle."""
    content = [
        {"segmentation": rle_of(region, compressed=compressed), "area": int(region.sum()),
         "bbox": [0, 0, 1, 1], "predicted_iou": 0.9, "stability_score": 0.95}
        for region in regions
    ]  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{image_id}.json"
    path.write_text(json.dumps(content))
    return path


def write_map(root: Path, image_id: str, regions: Sequence[Region]) -> Path:
    """`<id>.npy`, as S2C writes it; regions must not overlap."""
    numbers = np.full(regions[0].shape, -1, np.int64)
    for number, region in enumerate(regions):
        numbers[region] = number
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{image_id}.npy"
    np.save(path, numbers)
    return path


def superpixels(image: NDArray[np.uint8], *, spacing: int, blur: float) -> list[Region]:
    """A classical over-segmentation, which stands in for SAM: a watershed of the gradient.

    Args:
        image: (H,W,3).
        spacing: pixels between the seeds, a grid of them moved to the lowest gradient nearby.
        blur: of the image, in pixels.

    Returns:
        (H,W) each; they do not overlap and cover the image.
    """
    gray = ndimage.gaussian_filter(image.astype(float), (blur, blur, 0))
    gradient = np.sqrt(sum(ndimage.sobel(gray, axis) ** 2 for axis in (0, 1)).sum(axis=-1))
    levels = np.clip(255 * gradient / max(gradient.max(), 1e-9), 0, 255).astype(np.uint8)
    seeds = np.zeros(levels.shape, np.int32)
    half, count = spacing // 2, 0
    for top in range(0, levels.shape[0], spacing):
        for left in range(0, levels.shape[1], spacing):
            cell = levels[top : top + spacing, left : left + spacing]
            middle = cell[half // 2 : half // 2 + half + 1, half // 2 : half // 2 + half + 1]
            part, offset = (middle, half // 2) if middle.size else (cell, 0)
            y, x = np.unravel_index(np.argmin(part), part.shape)
            count += 1
            seeds[top + offset + int(y), left + offset + int(x)] = count
    numbers = ndimage.watershed_ift(levels, seeds)
    return [numbers == number for number in range(1, count + 1)]
