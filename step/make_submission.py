"""Archives of the segmentation network's masks for PASCAL's server."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misc.images import image_size
from step.common.checks import problems_of
from step.graph import ScoringStep, Source, Work
from step.seg.inputs import images_to_segment
from step.seg.results import BEST, LAST, VariantMasks, variants_of
from voc12.submission import submission_suffix, write_submission

if TYPE_CHECKING:
    from step.run import Run

logger = logging.getLogger(__name__)


class MakeSubmission(ScoringStep):
    """One archive for each checkpoint, checked before it appears."""

    help = "pack the masks for PASCAL's server"
    runs_with = "make_seg"
    is_default = False
    is_always_due = True

    def images(self, run: "Run") -> list[str]:
        return images_to_segment(run)

    def sources(self, run: "Run") -> tuple[Source, ...]:
        """The masks of every variant."""
        return tuple(VariantMasks(variant) for variant in variants_of(run))

    def why_off(self, run: "Run") -> str:
        """Nobody asked for an archive."""
        return "" if run.setting("voc_submission") else "no --voc_submission"

    def problems(self, run: "Run", todo: Sequence[str]) -> list[str]:
        return problems_of(lambda: submission_suffix(run.setting("voc_submission")))

    def make(self, work: Work, *, voc_submission: Path) -> dict[str, Any]:
        """Write an archive of each variant's final masks."""
        run, kind = work.run, submission_suffix(voc_submission)
        split = run.setting("make_seg_split")
        if Path(split).stem != "test":
            logger.warning("%s has masks of %s, not of test", voc_submission, split)
        written, dataset = [], run.dataset

        def size_of(image_id: str) -> tuple[int, int]:
            return image_size(dataset.image_path(image_id))

        for variant in variants_of(run):
            ending = variant.name.removeprefix(LAST)
            separator = "_" if ending.startswith(BEST) else ""
            stem = voc_submission.name.removesuffix(kind)
            path = voc_submission.with_name(f"{stem}{separator}{ending}{kind}")
            folder = variant.folder
            masks = {i: folder.file(i, folder.suffixes[-1]) for i in work.ids}
            write_submission(path, masks, size_of, dataset.num_classes)
            written.append(str(path))
        return {"images": len(work.ids), "archives": written}

    def describe(self, result: Mapping[str, Any]) -> str:
        return ", ".join(result["archives"])
