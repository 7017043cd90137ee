"""Hand-made COCO annotations of every kind, with their pictures."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # ids between 1 and 90 that COCO does not use
CATEGORY_IDS = [i for i in range(1, 91) if i not in GAPS]
SIZE = (40, 50)
OBJECT = {"iscrowd": 0, "area": 1}


def picture(path: Path, size: tuple[int, int] = SIZE, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size[1], size[0])).save(path)


def compressed(pixels: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def uncompressed(pixels: np.ndarray) -> dict[str, Any]:
    flat = np.concatenate([[0], pixels.ravel(order="F").astype(int)])
    changes = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]]))
    return {"size": list(pixels.shape), "counts": counts.tolist()}


def box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    pixels = np.zeros(size, bool)
    pixels[top:bottom, left:right] = True
    return pixels


def name_of(split: str, number: int) -> str:
    return f"COCO_{split}2014_{number:012d}"


class Coco:
    """A JSON that grows image by image and annotation by annotation."""

    def __init__(self, folder: Path, split: str = "train", first: int = 1) -> None:
        self.images_dir = folder / f"{split}2014"
        self.path = folder / f"instances_{split}2014.json"
        self.split = split
        self.number = first - 1
        self.content: dict[str, Any] = {
            "info": {"description": "hand-made", "year": 2014, "tags": [[], {}, "ä ] }"]},
            "images": [],
            "annotations": [],
            # Neither sorted nor without characters beyond ASCII.
            "categories": [
                {"id": i, "name": f"thing {i}" if i > 1 else "pérsön", "supercategory": "x"}
                for i in reversed(CATEGORY_IDS)
            ],
        }

    def image(self, *annotations: dict[str, Any], mode: str = "RGB", suffix: str = ".jpg") -> str:
        """Add a picture of SIZE with its annotations; its id."""
        self.number += 1
        file_name = name_of(self.split, self.number) + suffix
        height, width = SIZE
        picture(self.images_dir / file_name, mode=mode)
        self.content["images"].append(
            {"id": self.number, "file_name": file_name, "height": height, "width": width}
        )
        for annotation in annotations:
            own = {"id": 1000 + len(self.content["annotations"]), "image_id": self.number}
            self.content["annotations"].append(OBJECT | own | annotation)
        return name_of(self.split, self.number)

    def write(self, **options: Any) -> Path:
        self.path.write_text(json.dumps(self.content, **options), encoding="utf-8")
        return self.path


def every_kind(folder: Path, split: str = "train") -> Coco:
    """Images 1 to 7 with annotations of every kind; those of different images are mixed."""
    coco = Coco(folder, split)
    triangle = [[5.5, 5.2, 30.1, 8.7, 12.0, 33.3]]
    two_parts = [[2, 2, 10, 2, 10, 10, 2, 10], [20.5, 20.5, 48, 22, 40, 39.5, 22, 30]]
    ellipse = np.hypot(*(np.indices(SIZE) - np.array([20, 30])[:, None, None])) < 12
    coco.image(
        {"category_id": 90, "segmentation": triangle},
        {"category_id": 1, "segmentation": uncompressed(box(0, 0, 40, 20)), "iscrowd": 1},
        {"category_id": 13, "segmentation": two_parts},
        {"category_id": 2, "segmentation": compressed(ellipse)},
    )
    coco.image(mode="L")
    coco.image(
        {"category_id": 3, "segmentation": uncompressed(box(3, 4, 20, 30))},
        {"category_id": 90, "segmentation": [[-9, -9, 25, -5, 60, 60, 4, 30]]},
        mode="L",
    )
    coco.image(
        {"category_id": 5, "segmentation": [[60, 60, 70, 60, 70, 70]]},
        {"category_id": 6, "segmentation": [[5, 5, 9, 5, 13, 5]]},
        {"category_id": 7, "segmentation": [[5, 5, 9, 9]]},
        {"category_id": 8, "segmentation": []},
        {"category_id": 9, "segmentation": compressed(np.zeros(SIZE))},
        {"category_id": 10, "segmentation": uncompressed(np.zeros(SIZE, bool)), "iscrowd": 1},
    )
    coco.image({"category_id": 44, "segmentation": compressed(ellipse), "iscrowd": 1})
    coco.image({"category_id": 4, "segmentation": compressed(box(0, 0, 40, 50))}, suffix=".png")
    coco.image({"category_id": 90, "segmentation": triangle}, mode="CMYK")
    coco.content["annotations"].sort(key=lambda annotation: annotation["id"] * 7 % 5)
    return coco


def drawn_by_pycocotools(path: Path, crowd_value: int) -> dict[str, np.ndarray]:
    """Masks of a JSON as pycocotools' own class decodes it, by image id."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    class_ids = {category: i + 1 for i, category in enumerate(sorted(coco.cats))}
    masks = {}
    for number, image in coco.imgs.items():
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        annotations = [a for a in coco.imgToAnns[number] if _has_area(a)]
        for annotation in sorted(annotations, key=lambda a: -a["iscrowd"]):
            value = crowd_value if annotation["iscrowd"] else class_ids[annotation["category_id"]]
            mask[coco.annToMask(annotation) > 0] = value
        masks[Path(image["file_name"]).stem] = mask
    return masks


def _has_area(annotation: dict[str, Any]) -> bool:
    # pycocotools cannot take an empty list, and takes a polygon of two corners for a box.
    segmentation = annotation["segmentation"]
    return not isinstance(segmentation, list) or any(len(part) > 4 for part in segmentation)
