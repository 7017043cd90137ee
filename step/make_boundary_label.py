"""Boundary labels from confident regions and saliency maps: what the boundary network learns."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from misc.codes import VOID
from misc.config import Config, setting
from misc.images import read_mask
from misc.runtime import WorkerPool
from misc.saliency import read_saliency
from misc.workspace import ImageFolder, atomic_write
from step.artefacts import BOUNDARY_LABELS, CONFIDENT_REGIONS, SALIENCY_MAPS, has_walk
from step.graph import ImageStep, Work

if TYPE_CHECKING:
    from step.run import Run


def _odd(size: int) -> str:
    return "" if size % 2 == 1 else "must be odd"


@dataclass(frozen=True)
class Settings:
    """What counts as a boundary."""

    heading: ClassVar[str] = "boundary labels (make_boundary_label)"

    window_size: int = setting(
        13, "side of the window for class shares, pixels, odd", rule=_odd, at_least=1, at_most=999
    )
    theta_scale: float = setting(
        0.30, "share of the window that both sides exceed", at_least=0, at_most=1
    )
    theta_diff: float = setting(
        0.10, "largest difference of these shares at a boundary", at_least=0, at_most=1
    )
    salbound_thres: float = setting(
        0.5, "Sobel magnitude above which saliency has an edge", at_least=0, at_most=10
    )


class Item(NamedTuple):
    """What the labels of an image are made from; no saliency map for BES."""

    image_id: str
    regions_path: Path
    saliency_path: Path | None


class MakeBoundaryLabel(ImageStep):
    """Where classes meet in the confident regions, and where saliency has edges."""

    help = "boundary labels from CAMs and saliency"
    reads = (CONFIDENT_REGIONS, SALIENCY_MAPS)
    writes = BOUNDARY_LABELS
    flags = Settings

    def runs_unasked(self, config: Config) -> bool:
        return has_walk(config)

    def images(self, run: "Run") -> list[str]:
        return run.train_ids

    def make(
        self,
        work: Work,
        *,
        window_size: int,
        theta_scale: float,
        theta_diff: float,
        salbound_thres: float,
        sal_bg_thres: float,
    ) -> Iterator[object]:
        """Write the labels of `work.ids`."""
        run, dataset = work.run, work.run.dataset
        regions = CONFIDENT_REGIONS.folder(run)
        has_saliency = dataset.saliency_root is not None
        items = (
            Item(i, regions.file(i), dataset.saliency_path(i) if has_saliency else None)
            for i in work.ids
        )
        thresholds = {
            "window_size": window_size,
            "theta_scale": theta_scale,
            "theta_diff": theta_diff,
            "salbound_thres": salbound_thres,
            "sal_bg_thres": sal_bg_thres,
        }
        with WorkerPool(run.runtime.num_workers) as pool:
            yield from pool.map(partial(_make, folder=work.files, thresholds=thresholds), items)


def _make(item: Item, *, folder: ImageFolder, thresholds: dict[str, Any]) -> None:
    from misc.boundary_label import make_boundary_label, mask_to_regions

    mask = read_mask(item.regions_path)
    class_ids = np.setdiff1d(mask, [0, VOID]).astype(np.int64)
    saliency = None if item.saliency_path is None else read_saliency(item.saliency_path)
    regions = mask_to_regions(mask, class_ids)
    codes = make_boundary_label(regions, len(class_ids), saliency, **thresholds)
    with atomic_write(folder.file(item.image_id)) as file:
        Image.fromarray(codes).save(file, "PNG")
