"""Confident regions: pixels whose class a strict and a lenient reading of the CAMs agree upon."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from misc.config import setting
from misc.images import read_image, write_palette_png
from misc.workspace import ImageFolder, atomic_write
from step.artefacts import CAMS, CONFIDENT_REGIONS, PHOTOGRAPHS
from step.common.crf_work import map_with_crf
from step.common.results import CamFile, CamReader
from step.graph import ImageStep, Work

if TYPE_CHECKING:
    import torch

    from step.run import Run


@dataclass(frozen=True)
class Settings:
    """Background scores of the two readings."""

    heading: ClassVar[str] = "confident regions (make_boundary_label)"

    conf_fg_thres: float = setting(
        0.30, "background threshold for confident foreground", at_least=0, at_most=1,
        in_short_help=True,
    )  # fmt: skip
    conf_bg_thres: float = setting(
        0.07, "background threshold for confident background", at_least=0, at_most=1,
        in_short_help=True,
    )  # fmt: skip

    def problems(self) -> list[str]:
        """Settings that contradict each other."""
        if self.conf_bg_thres <= self.conf_fg_thres:
            return []
        return [
            f"--conf_bg_thres {self.conf_bg_thres:g}: must not be above --conf_fg_thres "
            f"{self.conf_fg_thres:g}"
        ]


class Item(NamedTuple):
    """What the regions of an image are made from."""

    image_id: str
    image_path: Path
    cam_file: CamFile


class MakeConfidentRegions(ImageStep):
    """What `make_boundary_label` starts from; it does not depend on saliency."""

    help = "confident regions of every image"
    reads = (PHOTOGRAPHS, CAMS)
    writes = CONFIDENT_REGIONS
    flags = Settings
    runs_with = "make_boundary_label"
    is_only_for_others = True

    def images(self, run: "Run") -> list[str]:
        return run.train_ids

    def make(
        self, work: Work, *, conf_fg_thres: float, conf_bg_thres: float, crf: str
    ) -> Iterator[object]:
        """Write the regions of `work.ids`."""
        run = work.run
        cams = CAMS.made(run)
        files = cams.files(work.ids)
        items = [Item(i, run.dataset.image_path(i), files[i]) for i in work.ids]
        make = partial(_make, conf_fg_thres=conf_fg_thres, conf_bg_thres=conf_bg_thres, crf=crf)
        yield from map_with_crf(
            run.runtime,
            items,
            read=partial(_read, read=cams.reader),
            make=make,
            write=partial(_write, work.files),
            crf=crf,
        )


def _read(item: Item, *, read: CamReader) -> dict[str, Any]:
    """Image, classes and CAMs of one image."""
    import torch

    image = read_image(item.image_path)
    cams = read(item.cam_file, (image.shape[0], image.shape[1]), "high_res")
    return {
        "image_id": item.image_id,
        "image": image,
        "class_ids": cams.class_ids,
        # A copy, since torch warns of sharing memory that numpy holds read-only.
        "cam": torch.tensor(cams.high_res),
    }


def _make(
    inputs: dict[str, Any], *, conf_fg_thres: float, conf_bg_thres: float, crf: str,
    device: "torch.device",
) -> tuple[str, np.ndarray]:  # fmt: skip
    """Image id, and its regions as a mask of class ids, uint8 (H,W)."""
    from misc.boundary_label import make_confident_regions, regions_to_mask
    from misc.crf import SEED_CRF, DenseCrf

    field = DenseCrf(inputs["image"], SEED_CRF, backend=crf, device=device)
    cam = inputs["cam"].to(device, non_blocking=True)
    regions = make_confident_regions(inputs["image"], cam, conf_fg_thres, conf_bg_thres, crf=field)
    mask = regions_to_mask(regions.cpu().numpy(), np.asarray(inputs["class_ids"]))
    return inputs["image_id"], mask


def _write(folder: ImageFolder, made: tuple[str, np.ndarray]) -> None:
    image_id, mask = made
    with atomic_write(folder.file(image_id)) as file:
        write_palette_png(file, mask)
