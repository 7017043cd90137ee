"""WSSS-BED's sets (arXiv 2404.00918) by name, and the scores that its paper published."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from voc12.classes import VOC_CLASSES

TABLES = Path(__file__).parent / "tables"
SCORES_OF = "mIoU of WSSS-BED's segmentation networks on val, not of pseudo masks"
# How the tables call what the set's name calls otherwise.
TRAINED_ON = {"MSRA-B": "MSRA", "HKU+MSRA": "MSRA_HKU", "COCO-20": "COCO20", "unsup": ""}
# These two were trained with the saliency maps: the name of their set ends with those of the maps.
WITH_SALIENCY_INSIDE = ("EPS", "L2G")
# Enough of COCO's eighty names to tell the dataset, in whatever order and spelling the others are.
COCO_CLASS_COUNT, COCO_MARKS = 80, {"person", "giraffe", "frisbee", "toothbrush"}
PREFIX = re.compile(r"(VOC2012|COCO2014|COCO)_", re.IGNORECASE)


@dataclass(frozen=True)
class Asset:
    """A published set: `kind` is activation or saliency; `path` is below the project's address."""

    kind: str
    name: str
    path: str


@dataclass(frozen=True)
class Published:
    """One published score: what WSSS-BED's own DeepLab-v2 reached, mean and spread of 3 seeds.

    Attributes:
        cam: activation set, such as EPS.
        saliency: saliency set, such as PoolNet_DUTS or MOVE.
        miou: of the segmentation network on val, 0..1.
        std: over seeds, 0..1.
    """

    cam: str
    saliency: str
    miou: float
    std: float


def _rows(name: str) -> list[dict[str, str]]:
    with open(TABLES / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def assets() -> tuple[Asset, ...]:
    """All published sets: 87 of activations, then 43 of saliency maps."""
    rows = _rows("wsss_bed_assets.csv")
    return tuple(Asset(row["kind"], row["name"], row["asset"]) for row in rows)


@cache
def published(class_names: tuple[str, ...]) -> tuple[Published, ...]:
    """The published scores for a dataset of these foreground classes: VOC's or COCO's, or none."""
    if class_names == VOC_CLASSES:
        name = "wsss_bed_voc12_val.csv"
    elif len(class_names) == COCO_CLASS_COUNT and set(class_names) >= COCO_MARKS:
        name = "wsss_bed_coco14_val.csv"
    else:
        return ()
    found = []
    for row in _rows(name):
        source = TRAINED_ON.get(row["trained_on"], row["trained_on"])
        saliency = "_".join(filter(None, (row["saliency"], source)))
        for column in (name for name in row if name.endswith("_miou")):
            cam = column.removesuffix("_miou")
            miou, std = float(row[column]) / 100, float(row[f"{cam}_std"]) / 100
            found.append(Published(cam, saliency, miou, std))
    return tuple(found)


def find_published(cam: str, saliency: str, scores: Sequence[Published]) -> Published | None:
    """The published score that a pair of a user's sets stands beside; None without one.

    Args:
        cam: name of the user's set: CAM, VOC2012_CAM, or VOC2012_EPS_PoolNet_DUTS; case is free.
        saliency: likewise, PoolNet_DUTS or VOC2012_PoolNet_DUTS; `none` for EPS and L2G, whose
            sets name their maps.
        scores: of the dataset.
    """
    cam, saliency = (PREFIX.sub("", name).lower() for name in (cam, saliency))
    for score in scores:
        own_cam, own_saliency = score.cam.lower(), score.saliency.lower()
        if score.cam in WITH_SALIENCY_INSIDE:
            if (cam, saliency) == (f"{own_cam}_{own_saliency}", "none"):
                return score
        elif (cam, saliency) == (own_cam, own_saliency):
            return score
    return None
