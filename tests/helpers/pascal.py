"""VOC 2012 as PASCAL's archive unpacks, by the names of its files: all its pictures are one."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from misc.images import write_palette_png
from tests.helpers.tiny import Run
from voc12.lists import read_list, shipped_list


def unpack_voc(root: Path) -> None:
    """Make the photographs, annotations, exact masks and lists; no saliency maps, no train_aug."""
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    one = root / "one"
    one.mkdir()
    Image.new("RGB", (8, 6)).save(one / "one.jpg")
    write_palette_png(one / "one.png", np.zeros((6, 8), np.uint8))
    (one / "one.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    train, val = read_list(shipped_list("train")), read_list(shipped_list("val"))
    for image_id in [*read_list(shipped_list("train_aug")), *val]:
        os.link(one / "one.jpg", root / "JPEGImages" / f"{image_id}.jpg")
        os.link(one / "one.xml", root / "Annotations" / f"{image_id}.xml")
    for image_id in [*train, *val]:
        os.link(one / "one.png", root / "SegmentationClass" / f"{image_id}.png")
    for name, ids in (("train", train), ("val", val), ("trainval", sorted([*train, *val]))):
        path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.write_text("".join(f"{image_id}\n" for image_id in ids))


def images_to_do(planned: Run) -> dict[str, int]:
    """Step -> number of images, as a plan that met no problem shows them."""
    assert planned.status == 0, planned.stderr
    assert "problem" not in planned.stdout, planned.stdout
    rows = (line.split() for line in planned.stdout.splitlines())
    return {row[0]: int(row[-1]) for row in rows if len(row) > 1 and row[-1].isdigit()}
