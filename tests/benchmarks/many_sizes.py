"""A dataset whose images have VOC's many sizes: caches by size would flatter a single one.

`voc_sizes.txt` has a line for each size of the 700 photographs of voc12_animals: width, height and
how many have it.
"""

import functools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from misc.images import read_mask
from misc.runtime import WorkerPool, available_cpus
from tests.benchmarks.inputs import (
    Picture,
    blurred_cams,
    link_picture,
    prepare_dataset,
    read_picture,
    resize_picture,
    write_picture,
)

SIZES_FILE = Path(__file__).with_name("voc_sizes.txt")
DISTINCT = 500  # images; further ones are links to them


def draw_sizes(count: int, scale: float = 1.0) -> list[tuple[int, int]]:
    """(height, width) of `count` images as VOC has them, times `scale`; the same at each call."""
    width, height, number = np.loadtxt(SIZES_FILE, dtype=np.int64).T
    drawn = np.random.default_rng(0).choice(len(number), count, p=number / number.sum())
    return [(round(int(height[i]) * scale), round(int(width[i]) * scale)) for i in drawn]


def write_many(
    root: Path, count: int, *, scale: float = 1.0, photographs: Path | None = None
) -> list[str]:
    """Write `count` images of many sizes as a dataset `voc` and CAMs `cam` below `root`.

    Args:
        root: an empty folder.
        count: of images; `DISTINCT` of them differ.
        scale: of both sides of VOC's sizes.
        photographs: a dataset in VOC's layout with exact masks (and saliency maps, or the masks
            stand for them), whose photographs are scaled to the sizes; None: the recorded one.
    """
    ids = prepare_dataset(root, count)
    sources: Sequence[str] = [""] if photographs is None else _ids_of(photographs)
    distinct = ids[:DISTINCT]
    tasks = [
        (image_id, size, sources[index % len(sources)])
        for index, (image_id, size) in enumerate(
            zip(distinct, draw_sizes(len(distinct), scale), strict=True)
        )
    ]
    with WorkerPool(available_cpus() if len(tasks) > DISTINCT // 10 else 0) as pool:
        for _ in pool.map(partial(_write, root, photographs), tasks):
            pass
    for index in range(DISTINCT, count):
        link_picture(root, ids[index % DISTINCT], ids[index])
    return ids


def _ids_of(photographs: Path) -> list[str]:
    ids = sorted(path.stem for path in (photographs / "SegmentationClass").glob("*.png"))
    if not ids:
        raise SystemExit(f"--photographs {photographs}: no masks in SegmentationClass")
    return ids


def _write(root: Path, photographs: Path | None, task: tuple[str, tuple[int, int], str]) -> None:
    image_id, (height, width), source = task
    picture = _recorded() if photographs is None else _photograph(photographs, source)
    picture = resize_picture(picture, height, width)
    if int(image_id) % 2:
        image, saliency, mask = (np.ascontiguousarray(array[:, ::-1]) for array in picture[:3])
        cam = np.ascontiguousarray(picture.cam[:, :, ::-1])
        picture = Picture(image, saliency, mask, cam, picture.class_ids)
    write_picture(root, image_id, picture)


@functools.cache
def _recorded() -> Picture:
    return read_picture()


def _photograph(root: Path, image_id: str) -> Picture:
    """One of a dataset's photographs; its CAMs are blurred masks."""
    image = np.array(Image.open(root / "JPEGImages" / f"{image_id}.jpg").convert("RGB"))
    mask = read_mask(root / "SegmentationClass" / f"{image_id}.png")
    cams = blurred_cams(mask)
    if (root / "Sal" / f"{image_id}.png").exists():
        saliency = np.array(Image.open(root / "Sal" / f"{image_id}.png").convert("L"))
    else:
        saliency = np.isin(mask, cams.class_ids).astype(np.uint8) * 255
    return Picture(image, saliency, mask, cams.high_res, cams.class_ids)
