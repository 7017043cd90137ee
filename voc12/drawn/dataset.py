"""The drawn dataset behind `--demo`: VOC layout, exact masks, imperfect saliency, no download."""

import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from misc.errors import UserError
from misc.images import write_palette_png
from misc.workspace import read_json, write_json
from voc12.classes import VOC_CLASSES, class_indices
from voc12.drawn.figures import FIGURES
from voc12.drawn.scene import Scene, draw_scene, smooth_noise

RECORD_NAME = "drawn.json"
_DRAWING = 3  # raise it when the same seed draws other pictures


def draw_dataset(
    root: Path, *, num_train: int, num_val: int, size: int, seed: int, empty_every: int = 0
) -> None:
    """Draw a dataset in VOC layout, whole or not at all; one drawn alike before is kept.

    It holds JPEGImages, Annotations, SegmentationClass (255 = border), Sal and
    ImageSets/Segmentation/{train,train_aug,val}.txt; train_aug is train.

    Args:
        root: folder to make.
        num_train: training images.
        num_val: validation images.
        size: largest long side of an image in pixels, at least 64.
        seed: the same one draws the same pictures.
        empty_every: one image in so many shows no object; 0: every image shows one or two. Without
            such images a classifier learns one of the classes as the absence of all others.

    Raises:
        UserError: `root` exists and holds something else, or the numbers make no dataset.
    """
    if num_train < 1 or num_val < 0 or size < 64:
        raise UserError(
            f"Cannot draw {num_train} + {num_val} images of {size} pixels: it needs at least one "
            "training image and 64 pixels."
        )
    record = {
        "drawing": _DRAWING, "num_train": num_train, "num_val": num_val, "size": size, "seed": seed,
        "empty_every": empty_every,
    }  # fmt: skip
    if root.exists():
        if (root / RECORD_NAME).exists() and read_json(root / RECORD_NAME) == record:
            return
        raise UserError(f"{root} exists, but is not the drawn dataset asked for. Delete it.")
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write_dataset(partial, num_train, num_val, size, seed, empty_every)
        write_json(partial / RECORD_NAME, record)
        os.replace(partial, root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def imperfect_saliency(
    rng: np.random.Generator, foreground: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """A soft saliency map (H,W) of `foreground` (H,W) with the faults that real ones have.

    The outline wobbles, is grown or shrunk by a pixel or two and blurred; now and then a piece is
    missing or a blob of the ground is salient. Most of the ground is exactly 0.
    """
    height, width = foreground.shape
    inside = ndimage.distance_transform_edt(foreground)
    outside = (
        ndimage.distance_transform_edt(~foreground)
        if foreground.any()
        else np.full(foreground.shape, max(height, width))
    )
    signed = (inside - outside).astype(np.float32)
    wobble = rng.uniform(-1.2, 1.2) + smooth_noise(rng, height, width, 14)
    saliency = (signed + wobble > 0) * rng.uniform(0.75, 1.0)
    saliency = saliency * np.clip(1 + 0.12 * smooth_noise(rng, height, width, 40), 0, 1)
    if rng.random() < 0.3 and foreground.any():
        saliency *= 1 - rng.uniform(0.5, 1.0) * _blob(rng, foreground, 0.07)
    if rng.random() < 0.25:
        ground = signed < -0.06 * max(height, width)
        if ground.any():
            saliency = np.maximum(saliency, rng.uniform(0.3, 0.8) * _blob(rng, ground, 0.06))
    soft = ndimage.gaussian_filter(saliency, rng.uniform(1.0, 1.8))
    return (np.where(soft < 0.04, 0, soft) * 255).round().astype(np.uint8)


def _blob(rng: np.random.Generator, around: NDArray[np.bool_], share: float) -> NDArray[np.float64]:
    """1 in an ellipse at a random pixel of `around`, its radii about `share` of the long side."""
    height, width = around.shape
    ys, xs = np.nonzero(around)
    pick = rng.integers(len(ys))
    radii = share * max(height, width) * rng.uniform(0.7, 1.4, 2)
    y, x = np.mgrid[:height, :width]
    distance = ((y - ys[pick]) / radii[0]) ** 2 + ((x - xs[pick]) / radii[1]) ** 2
    return (distance < 1).astype(np.float64)


def _write_dataset(
    root: Path, num_train: int, num_val: int, size: int, seed: int, empty_every: int
) -> None:
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "Sal"):
        (root / folder).mkdir(parents=True)
    ids = [f"2007_{i + 1:06d}" for i in range(num_train + num_val)]
    names = sorted(FIGURES)
    for i, image_id in enumerate(ids):
        # A generator an image: a picture does not change with the number of pictures.
        rng = np.random.default_rng([seed, i])
        shown = [names[i % len(names)]]
        if rng.random() < 0.45:
            shown.insert(int(rng.integers(2)), names[rng.integers(len(names))])
        if empty_every and i % empty_every == empty_every - 1:
            shown = []
        _write_image(root, image_id, draw_scene(rng, *_random_size(rng, size), tuple(shown)), rng)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, members in (
        ("train", ids[:num_train]), ("train_aug", ids[:num_train]), ("val", ids[num_train:]),
    ):  # fmt: skip
        (lists / f"{split}.txt").write_text("".join(f"{x}\n" for x in members), encoding="utf-8")


def _random_size(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """(H, W) with a long side of 0.8 to 1 times `size`, one in five upright."""
    long = int(size * rng.uniform(0.8, 1))
    short = int(long * rng.uniform(0.7, 0.8))
    return (long, short) if rng.random() < 0.2 else (short, long)


def _write_image(root: Path, image_id: str, scene: Scene, rng: np.random.Generator) -> None:
    picture = Image.fromarray(scene.image)
    picture.save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
    names = sorted(FIGURES)
    mask = scene.mask(dict(zip(names, class_indices(VOC_CLASSES, names), strict=True)))
    write_palette_png(root / "SegmentationClass" / f"{image_id}.png", mask)
    foreground = np.zeros(mask.shape, bool)
    for thing in scene.objects:
        foreground |= thing.visible
    Image.fromarray(imperfect_saliency(rng, foreground)).save(root / "Sal" / f"{image_id}.png")
    _write_annotation(root / "Annotations" / f"{image_id}.xml", image_id, scene)


def _write_annotation(path: Path, image_id: str, scene: Scene) -> None:
    """The XML that VOC has: size, and name and 1-based box of each object."""
    height, width = scene.image.shape[:2]
    top = ElementTree.Element("annotation")
    ElementTree.SubElement(top, "folder").text = "VOC2012"
    ElementTree.SubElement(top, "filename").text = f"{image_id}.jpg"
    size = ElementTree.SubElement(top, "size")
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        ElementTree.SubElement(size, key).text = str(value)
    ElementTree.SubElement(top, "segmented").text = "1"
    for thing in scene.objects:
        ys, xs = np.nonzero(thing.visible)
        element = ElementTree.SubElement(top, "object")
        ElementTree.SubElement(element, "name").text = thing.name
        box = ElementTree.SubElement(element, "bndbox")
        corners = (xs.min() + 1, ys.min() + 1, xs.max() + 1, ys.max() + 1)
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            ElementTree.SubElement(box, key).text = str(value)
    ElementTree.indent(top)
    ElementTree.ElementTree(top).write(path, encoding="utf-8")
