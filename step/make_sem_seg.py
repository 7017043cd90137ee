"""Pseudo masks: class scores, walked or not, cut by one of two rules, before and after a CRF."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from misc.config import setting
from misc.images import read_image, write_palette_png
from misc.saliency import read_saliency
from misc.workspace import ImageFolder, atomic_write
from step.artefacts import CAMS, CRF_PNG, PHOTOGRAPHS, PSEUDO_MASKS, SALIENCY_MAPS, WALKS
from step.common.crf_work import map_with_crf
from step.common.results import CamFile, CamReader
from step.graph import ImageStep, Source, Work

if TYPE_CHECKING:
    import torch

    from step.run import Run

WALK, CAM = "walk", "cam"
THRESHOLD, SALIENCY = "threshold", "saliency"


@dataclass(frozen=True)
class Settings:
    """Which scores become masks, and what is background."""

    heading: ClassVar[str] = "pseudo masks (make_sem_seg)"

    sem_seg_scores: str = setting(
        WALK, "what masks are made of: walk (the scores after the random walk) or cam (the CAMs)",
        (WALK, CAM),
    )  # fmt: skip
    sem_seg_rule: str = setting(
        THRESHOLD,
        "what is background: threshold (SBE: scores up to --sem_seg_bg_thres) or saliency "
        "(WSSS-BED: what is not salient)",
        (THRESHOLD, SALIENCY),
        in_short_help=True,
    )
    sem_seg_bg_thres: float = setting(
        0.21, "rule threshold: background score", at_least=0, at_most=1, in_short_help=True
    )
    sem_seg_act_thres: float = setting(
        0.0, "rule saliency: score from which a class counts", at_least=0, at_most=1
    )
    sem_seg_sal_thres: float = setting(
        0.2, "rule saliency: saliency above which a pixel is salient; 0: soft", at_least=0,
        at_most=1,
    )  # fmt: skip
    sem_seg_ignore: bool = setting(
        True, "rule saliency: label salient pixels without a class as 255 = ignore"
    )


OF_RULE = {
    THRESHOLD: ("sem_seg_bg_thres",),
    SALIENCY: ("sem_seg_act_thres", "sem_seg_sal_thres", "sem_seg_ignore"),
}
"""Settings that only one of the rules knows."""


class Item(NamedTuple):
    """What the masks of an image are made from; a saliency map for the rule that needs it."""

    image_id: str
    image_path: Path
    score_file: CamFile
    saliency_path: Path | None


class Masks(NamedTuple):
    """One image's masks of class ids, uint8 (H,W), before and after the CRF."""

    image_id: str
    mask: np.ndarray
    smoothed: np.ndarray


class MakeSemSeg(ImageStep):
    """Masks of every image.

    The scores and the rule name the method: walk and threshold are SBE, cam and saliency are
    WSSS-BED's masks, walk and saliency the salient walk, which joins the two, and cam and threshold
    plain CAM masks.
    """

    help = "pseudo masks, before and after the CRF"
    writes = PSEUDO_MASKS
    flags = Settings

    def sources(self, run: "Run") -> tuple[Source, ...]:
        """Photographs, the chosen scores and, for the rule that needs them, saliency maps."""
        scores = WALKS if run.setting("sem_seg_scores") == WALK else CAMS
        saliency = (SALIENCY_MAPS,) if run.setting("sem_seg_rule") == SALIENCY else ()
        return (PHOTOGRAPHS, scores, *saliency)

    def images(self, run: "Run") -> list[str]:
        return run.infer_ids

    def setting_names(self, run: "Run") -> list[str]:
        """All settings that its result depends on: not those of the other rule."""
        rule = run.setting("sem_seg_rule")
        others = {name for each, names in OF_RULE.items() if each != rule for name in names}
        return [name for name in super().setting_names(run) if name not in others]

    def problems(self, run: "Run", todo: Sequence[str]) -> list[str]:
        if run.setting("sem_seg_rule") == SALIENCY and run.dataset.saliency_root is None:
            return [
                "--sem_seg_rule saliency needs saliency maps: leave out --saliency none, or pass "
                "--sem_seg_rule threshold."
            ]
        return []

    def place(self, run: "Run") -> Path:
        return self.writes.path(run)

    def make(
        self,
        work: Work,
        *,
        sem_seg_scores: str,
        sem_seg_rule: str,
        sem_seg_bg_thres: float,
        sem_seg_act_thres: float,
        sem_seg_sal_thres: float,
        sem_seg_ignore: bool,
        crf: str,
    ) -> Iterator[object]:
        """Write the masks of `work.ids`."""
        run, dataset = work.run, work.run.dataset
        is_walk, by_saliency = sem_seg_scores == WALK, sem_seg_rule == SALIENCY
        scores = (WALKS if is_walk else CAMS).made(run)
        files = scores.files(work.ids)
        items = [
            Item(
                i,
                dataset.image_path(i),
                files[i],
                dataset.saliency_path(i) if by_saliency else None,
            )
            for i in work.ids
        ]
        if by_saliency:
            read = partial(
                _read_salient,
                read=scores.reader,
                act_thres=sem_seg_act_thres,
                sal_thres=sem_seg_sal_thres,
                ignore=sem_seg_ignore,
            )
        else:
            read = partial(_read, read=scores.reader, part="cam" if is_walk else "high_res")
        yield from map_with_crf(
            run.runtime,
            items,
            read=read,
            make=partial(_make, background_score=sem_seg_bg_thres, crf=crf),
            write=partial(_write, work.files),
            crf=crf,
        )


def _read(item: Item, *, read: CamReader, part: str) -> dict[str, Any]:
    """Image, classes and one part of their scores, `cam` or `high_res`."""
    import torch

    image = read_image(item.image_path)
    cams = read(item.score_file, (image.shape[0], image.shape[1]), part)
    return {
        "image_id": item.image_id,
        "image": image,
        "class_ids": cams.class_ids,
        # A copy, since torch warns of sharing memory that numpy holds read-only.
        part: torch.tensor(getattr(cams, part)),
    }


def _read_salient(
    item: Item, *, read: CamReader, act_thres: float, sal_thres: float, ignore: bool
) -> dict[str, Any]:
    """Image, classes, and the regions that saliency and the scores make."""
    from misc.wsss_bed import make_wsss_bed_mask

    assert item.saliency_path is not None
    image = read_image(item.image_path)
    cams = read(item.score_file, (image.shape[0], image.shape[1]), "high_res")
    regions = make_wsss_bed_mask(
        cams.high_res,
        np.arange(1, len(cams.class_ids) + 1),
        read_saliency(item.saliency_path),
        act_thres=act_thres,
        sal_thres=sal_thres,
        ignore=ignore,
    )
    return {
        "image_id": item.image_id,
        "image": image,
        "class_ids": cams.class_ids,
        "regions": regions,
    }


def _make(
    inputs: dict[str, Any], *, background_score: float, crf: str, device: "torch.device"
) -> Masks:
    """The masks of one image, made on `device`."""
    import torch

    from misc.boundary_label import UNSURE, regions_to_mask
    from misc.crf import MASK_CRF, DenseCrf

    image, class_ids = inputs["image"], np.asarray(inputs["class_ids"])
    regions = _regions(inputs, background_score, device)
    field = DenseCrf(image, MASK_CRF, backend=crf, device=device)
    smoothed = field.from_labels(regions, len(class_ids) + 1, unsure=UNSURE)
    both = torch.stack([regions, smoothed.to(regions.device)]).cpu().numpy()
    before, after = (regions_to_mask(each, class_ids) for each in both)
    return Masks(inputs["image_id"], before, after)


def _regions(
    inputs: dict[str, Any], background_score: float, device: "torch.device"
) -> "torch.Tensor":
    """Indices of the classes (H,W), 0 background: as they were read, or by the threshold."""
    import torch

    from misc.pseudo_mask import regions_above, scores_to_regions

    if "regions" in inputs:
        return torch.as_tensor(inputs["regions"]).to(device, non_blocking=True)
    if "cam" in inputs:
        size = (inputs["image"].shape[0], inputs["image"].shape[1])
        scores = inputs["cam"].to(device, non_blocking=True)
        return scores_to_regions(scores, size, background_score)
    return regions_above(inputs["high_res"].to(device, non_blocking=True), background_score)


def _write(folder: ImageFolder, masks: Masks) -> None:
    for suffix, mask in ((".png", masks.mask), (CRF_PNG, masks.smoothed)):
        with atomic_write(folder.file(masks.image_id, suffix)) as file:
            write_palette_png(file, mask)
