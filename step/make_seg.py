"""Segment whole images with the trained DeepLab-v2, before and after a CRF."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from misc.config import positive_numbers, setting
from misc.images import write_palette_png
from misc.runtime import is_accelerator
from misc.workspace import ImageFolder, atomic_write
from step.artefacts import CRF_PNG, PHOTOGRAPHS
from step.common.crf_work import map_beside_network
from step.graph import ImageStep, Node, Source, Work
from step.seg.inputs import images_to_segment
from step.seg.results import BEST, LAST, MASKS, WEIGHTS, has_best, seeds_of

if TYPE_CHECKING:
    import torch

    from step.run import Run


@dataclass(frozen=True)
class Settings:
    """How images are segmented."""

    heading: ClassVar[str] = "segmentation (make_seg, eval_seg)"

    make_seg_split: str = setting(
        "val", "images to segment and score: a list file or its name, such as test",
        decides="input",
    )  # fmt: skip
    seg_test_scales: tuple[float, ...] = setting(
        (1.0, 0.75, 0.5), "scales that images are segmented at; the largest logit counts",
        rule=positive_numbers, at_least=0.01, at_most=20,
    )  # fmt: skip
    seg_test_flip: bool = setting(False, "also segment mirror images, and average the logits")
    seg_crf: bool = setting(True, "also apply a dense CRF to the softmax (COCO: usually not)")
    voc_submission: Path | None = setting(
        None,
        "archive of make_seg's masks for PASCAL's server (.tar.gz, .tgz, .zip), checked",
        decides="no effect",
    )


class Logits(NamedTuple):
    """Image id, image uint8 (H,W,3), and class logits float32 (C,h,w).

    The logits are a tensor on the device that makes the masks; for the CPU, an array.
    """

    image_id: str
    image: np.ndarray
    logits: "torch.Tensor | np.ndarray"


class Masks(NamedTuple):
    """Image id, its mask uint8 (H,W), and the same after the CRF, if there is one."""

    image_id: str
    mask: np.ndarray
    sharpened: np.ndarray | None = None


class MakeSeg(ImageStep):
    """The masks of one checkpoint of one seed."""

    help = "segment images with DeepLab-v2, before and after the CRF"
    flags = Settings
    is_default = False
    # It decides which files there are, not what is in them.
    unrecorded = ("seg_crf",)

    def __init__(self, checkpoint: str = LAST) -> None:
        self.checkpoint = checkpoint
        self.writes = MASKS[checkpoint]

    def nodes(self, run: "Run") -> list[Node]:
        """The last checkpoint of every seed, and the best."""
        found = []
        for each in seeds_of(run):
            seed = each.config.seed if run.setting("seg_seeds") else None
            ending = "" if seed is None else f"_seed{seed}"
            words = [] if seed is None else [f"seed {seed}"]
            found.append(Node(self, each, ", ".join(words), ending))
            best = WEIGHTS[BEST].path(each)
            if run.setting("seg_val_every") or best.exists():
                found.append(Node(MakeSeg(BEST), each, ", ".join([BEST, *words]), f"_best{ending}"))
        return found

    def sources(self, run: "Run") -> tuple[Source, ...]:
        """Photographs, and the checkpoint's weights."""
        return PHOTOGRAPHS, WEIGHTS[self.checkpoint]

    def images(self, run: "Run") -> list[str]:
        return images_to_segment(run)

    def place(self, run: "Run") -> Path:
        return self.writes.path(run)

    def why_off(self, run: "Run") -> str:
        """No weights were kept as the best."""
        if self.checkpoint == LAST or has_best(run):
            return ""
        return "no best weights on val are kept"

    def make(
        self,
        work: Work,
        *,
        seg_backbone: str,
        seg_test_scales: tuple[float, ...],
        seg_test_flip: bool,
        seg_crf: bool,
        crf: str,
    ) -> Iterator[object]:
        """Write the masks of `work.ids`."""
        from misc.crf import crf_device, crf_has_threads
        from step.common.networks import trained_segmentation_network
        from step.common.predict import predict_classes

        run, runtime = work.run, work.run.runtime
        weights = WEIGHTS[self.checkpoint]
        network = trained_segmentation_network(run, seg_backbone, weights)
        predicted = predict_classes(
            run, network, work.ids, seg_test_scales, flip=seg_test_flip, weights=weights
        )
        device = crf_device(crf, runtime.device) if seg_crf else runtime.device
        items = (
            Logits(image_id, image, logits if is_accelerator(device) else logits.cpu().numpy())
            for image_id, image, logits in predicted
        )
        yield from map_beside_network(
            runtime,
            items,
            make=partial(_make, crf=crf if seg_crf else None),
            write=partial(_write, work.files),
            device=device,
            # Enlarging has torch's threads; a CRF takes so much longer that it alone decides.
            has_threads=not seg_crf or crf_has_threads(crf),
        )


def _make(task: Logits, *, crf: str | None, device: "torch.device") -> Masks:
    """The masks of one image, made on `device`; without a CRF if `crf` is None."""
    import torch

    from misc.crf import DEEPLAB_CRF, DenseCrf
    from net.deeplab_v2 import stretch

    scores = stretch(torch.as_tensor(task.logits)[None], task.image.shape[:2])[0]
    made = [scores.argmax(0).to(torch.uint8)]
    if crf is not None:
        field = DenseCrf(task.image, DEEPLAB_CRF, backend=crf, device=device)
        made.append(field.labels_from_probabilities(torch.softmax(scores, dim=0)))
    mask, *sharpened = torch.stack(made).cpu().numpy()
    return Masks(task.image_id, mask, *sharpened)


def _write(folder: ImageFolder, masks: Masks) -> None:
    for suffix, mask in ((".png", masks.mask), (CRF_PNG, masks.sharpened)):
        if mask is not None:
            with atomic_write(folder.file(masks.image_id, suffix)) as file:
                write_palette_png(file, mask)
