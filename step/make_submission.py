"""Archives of the segmentation network's masks for PASCAL's server."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misc.images import image_size
from step.common.checks import problems_of
from step.graph import ScoringStep, Source, Work
from step.seg.inputs import images_to_segment
from step.seg.results import BEST, LAST, VariantMasks, variants_of
from voc12.submission import is_submission, submission_suffix, write_submission

if TYPE_CHECKING:
    from step.run import Run


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
        if problems := problems_of(lambda: submission_suffix(run.setting("voc_submission"))):
            return problems
        paths = (_archive(run.setting("voc_submission"), each.name) for each in variants_of(run))
        return [
            f"--voc_submission: {path} is there, and is no submission. Choose another name."
            for path in paths
            if path.exists() and not is_submission(path)
        ]

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Masks of images that the server does not ask for."""
        split, path = run.setting("make_seg_split"), run.setting("voc_submission")
        is_test = Path(split).stem == "test"
        told = [] if is_test else [f"{path} has masks of {split}, not of test."]
        return super().warnings(run, ids) + told

    def make(self, work: Work, *, voc_submission: Path) -> dict[str, Any]:
        """Write an archive of each variant's final masks."""
        run = work.run
        written, dataset = [], run.dataset

        def size_of(image_id: str) -> tuple[int, int]:
            return image_size(dataset.image_path(image_id))

        for variant in variants_of(run):
            path = _archive(voc_submission, variant.name)
            folder = variant.folder
            masks = {i: folder.file(i, folder.suffixes[-1]) for i in work.ids}
            write_submission(path, masks, size_of, dataset.num_classes)
            written.append(str(path))
        return {"images": len(work.ids), "archives": written}

    def describe(self, result: Mapping[str, Any]) -> str:
        return ", ".join(result["archives"])


def _archive(path: Path, variant: str) -> Path:
    """Where the archive of a variant goes."""
    kind, ending = submission_suffix(path), variant.removeprefix(LAST)
    separator = "_" if ending.startswith(BEST) else ""
    return path.with_name(f"{path.name.removesuffix(kind)}{separator}{ending}{kind}")
