"""A dataset of many small drawn images, and masks of them: for what only looks at masks."""

from pathlib import Path

import numpy as np
from PIL import Image

from misc.images import voc_palette, write_palette_png

SIZE = (24, 32)
CLASSES = ('mug <b>"blue"</b>', "spoon & fork", "it's")
HOSTILE = (
    "<img src=x onerror=alert(1)>", '"quoted" \'id\'', "a b#c?d=50%25&e", "\u00fcn\u00ef \u2603",
    "<script>alert(2)<!--", "..%2fup", "{{ 7 * 7 }}",
)  # fmt: skip


def ids_of(count: int) -> list[str]:
    """So many ids; the first ones are such as only a stranger would choose."""
    return [*HOSTILE, *(f"image_{number:05d}" for number in range(count - len(HOSTILE)))][:count]


def draw_many(root: Path, count: int) -> Path:
    """Draw the dataset `root/voc`, whose list train names all, and masks `root/masks`.

    A box of class 1 + k % 3 in image k. Its mask is right, or missing where k % 4 is 1, of another
    class where it is 2, and over the whole image where it is 3. After the CRF each fifth is right.
    """
    voc, masks = root / "voc", root / "masks"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    masks.mkdir()
    ids = ids_of(count)
    (voc / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    text = "\n".join(ids) + "\n"
    (voc / "ImageSets/Segmentation/train.txt").write_text(text, encoding="utf-8")
    for number, image_id in enumerate(ids):
        kind = 1 + number % len(CLASSES)
        truth = np.zeros(SIZE, np.uint8)
        truth[6:18, 8 : 12 + number % 17] = kind
        wrong = {
            1: np.zeros_like(truth),
            2: np.where(truth, 1 + kind % 3, 0),
            3: np.full_like(truth, kind),
        }
        mask = wrong.get(number % 4, truth).astype(np.uint8)
        photograph = Image.fromarray(voc_palette()[truth] // 2 + 90)
        photograph.save(voc / "JPEGImages" / f"{image_id}.jpg")
        write_palette_png(voc / "SegmentationClass" / f"{image_id}.png", truth)
        write_palette_png(masks / f"{image_id}.png", mask)
        write_palette_png(masks / f"{image_id}_crf.png", mask if number % 5 else truth)
    return voc
