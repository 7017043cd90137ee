"""Pseudo masks by WSSS-BED's rule: one set of CAMs, one of saliency maps, two thresholds."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from misc.config import setting
from misc.images import image_size, write_palette_png
from misc.runtime import WorkerPool
from misc.saliency import read_saliency
from misc.workspace import ImageFolder, atomic_write
from step.artefacts import CAMS, PHOTOGRAPHS, SALIENCY_MAPS, draw_masks, label_png_bytes
from step.common.results import CamFile, CamReader
from step.graph import ImageFiles, ImageStep, Work

if TYPE_CHECKING:
    from step.run import Run

WSSS_BED_MASKS = ImageFiles(
    "WSSS-BED's masks", "wsss_bed_out_dir", "masks by WSSS-BED's rule", "wsss_bed",
    image_bytes=label_png_bytes, draw=lambda *item: draw_masks("WSSS-BED's mask", *item),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The two thresholds of the rule."""

    heading: ClassVar[str] = "WSSS-BED's masks (make_wsss_bed_masks)"

    wsss_bed_act_thres: float = setting(
        0.1, "activation from which a class counts in the masks", at_least=0, at_most=1
    )
    wsss_bed_sal_thres: float = setting(
        0.2, "saliency above which a pixel is salient; 0: soft", at_least=0, at_most=1
    )
    wsss_bed_ignore: bool = setting(
        True, "label salient pixels without an activated class as 255 = ignore"
    )


class Item(NamedTuple):
    """What the mask of an image is made from; without saliency, background is a threshold."""

    image_id: str
    image_path: Path
    cam_file: CamFile
    saliency_path: Path | None


class MakeWsssBedMasks(ImageStep):
    """The outline of saliency, filled with the strongest class.

    With `--saliency none` the background scores `wsss_bed_act_thres` and nothing is ignored.
    """

    help = "pseudo masks by WSSS-BED's rule"
    reads = (PHOTOGRAPHS, CAMS, SALIENCY_MAPS)
    writes = WSSS_BED_MASKS
    flags = Settings
    is_default = False
    in_demo = False

    def images(self, run: "Run") -> list[str]:
        return run.infer_ids

    def place(self, run: "Run") -> Path:
        return self.writes.path(run)

    def make(
        self,
        work: Work,
        *,
        wsss_bed_act_thres: float,
        wsss_bed_sal_thres: float,
        wsss_bed_ignore: bool,
    ) -> Iterator[object]:
        """Write the masks of `work.ids`."""
        run, dataset = work.run, work.run.dataset
        cams = CAMS.made(run)
        files = cams.files(work.ids)
        has_saliency = dataset.saliency_root is not None
        items = (
            Item(
                i,
                dataset.image_path(i),
                files[i],
                dataset.saliency_path(i) if has_saliency else None,
            )
            for i in work.ids
        )
        rule = {
            "act_thres": wsss_bed_act_thres,
            "sal_thres": wsss_bed_sal_thres,
            "ignore": wsss_bed_ignore,
        }
        with WorkerPool(run.runtime.num_workers) as pool:
            job = partial(_make, read=cams.reader, folder=work.files, rule=rule)
            yield from pool.map(job, items)


def _make(item: Item, *, read: CamReader, folder: ImageFolder, rule: dict[str, Any]) -> None:
    from misc.wsss_bed import make_wsss_bed_mask

    cams = read(item.cam_file, image_size(item.image_path), "high_res")
    saliency = None if item.saliency_path is None else read_saliency(item.saliency_path)
    mask = make_wsss_bed_mask(cams.high_res, cams.class_ids, saliency, **rule)
    with atomic_write(folder.file(item.image_id)) as file:
        write_palette_png(file, mask)
