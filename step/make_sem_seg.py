"""Pseudo masks: CAMs spread by a random walk that boundaries stop, before and after a CRF."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from misc.config import setting
from misc.errors import UserError
from misc.images import write_palette_png
from misc.runtime import WorkerPool, is_accelerator
from misc.workspace import ImageFolder, atomic_write
from step.artefacts import BES_WEIGHTS, CAMS, CRF_PNG, PHOTOGRAPHS, PSEUDO_MASKS
from step.common.results import CamFile, CamReader
from step.graph import ImageStep, Work

if TYPE_CHECKING:
    import torch

    from step.run import Run

IMAGES_A_WALK = 16  # on a GPU, which one image leaves idle


@dataclass(frozen=True)
class Settings:
    """How far the walk goes, and what is background after it."""

    heading: ClassVar[str] = "random walk and pseudo masks (make_sem_seg)"

    beta: float = setting(5.0, "power of the affinity", above=0)
    exp_times: int = setting(8, "the walk takes 2^exp_times steps", at_least=0, at_most=20)
    sem_seg_bg_thres: float = setting(
        0.21, "background score of the pseudo masks", at_least=0, at_most=1, in_short_help=True
    )
    walk: str = setting(
        "chebyshev", "chebyshev (fast), or exact: 2^exp_times products", ("chebyshev", "exact")
    )


class Walked(NamedTuple):
    """One image after the random walk: image (H,W,3), class ids (K,), scores (K,h,w).

    Image and scores are tensors only where the CRF is on a GPU.
    """

    image_id: str
    image: "np.ndarray | torch.Tensor"
    class_ids: np.ndarray
    scores: "np.ndarray | torch.Tensor"


class Masks(NamedTuple):
    """One image's masks of class ids, uint8 (H,W), before and after the CRF."""

    image_id: str
    mask: np.ndarray
    smoothed: np.ndarray


class MakeSemSeg(ImageStep):
    """Random walk of every CAM over the pixels, and its masks."""

    help = "pseudo masks by random walk, before and after the CRF"
    reads = (PHOTOGRAPHS, CAMS, BES_WEIGHTS)
    writes = PSEUDO_MASKS
    flags = Settings

    def images(self, run: "Run") -> list[str]:
        return run.infer_ids

    def place(self, run: "Run") -> Path:
        return self.writes.path(run)

    def make(
        self,
        work: Work,
        *,
        backbone: str,
        beta: float,
        exp_times: int,
        sem_seg_bg_thres: float,
        walk: str,
        crf: str,
    ) -> Iterator[object]:
        """Write the masks of `work.ids`.

        Worker processes read and write, and do the CRF where that is on the CPU. Where network and
        CRF would share the threads of every core, all but the reading is done here.
        """
        from misc.crf import crf_device, crf_has_threads

        runtime = work.run.runtime
        device = crf_device(crf, runtime.device)
        walked = walk_images(
            work.run, work.ids, backbone=backbone, beta=beta, exp_times=exp_times, method=walk
        )
        label = partial(_label, background_score=sem_seg_bg_thres, crf=crf, device=device)
        workers = runtime.workers_beside_network(has_threads=crf_has_threads(crf))
        with WorkerPool(workers) as pool:
            if is_accelerator(device):
                yield from pool.map(partial(_write, work.files), map(label, walked))
            else:
                job = partial(_label_and_write, label=label, folder=work.files)
                yield from pool.map(job, map(_on_cpu, walked))


def walk_images(
    run: "Run", ids: Sequence[str], *, backbone: str, beta: float, exp_times: int, method: str
) -> Iterator[Walked]:
    """The CAMs of `ids` after the random walk, in their order; scores where the network is."""
    import torch

    from misc.random_walk import random_walk_many
    from step.common.predict import with_boundaries
    from voc12.dataloader import ImagePyramids

    cams = CAMS.made(run)
    inputs: Any = _Inputs(ImagePyramids(run.dataset, list(ids)), cams.files(ids), cams.reader)
    size = IMAGES_A_WALK if is_accelerator(run.runtime.device) else 1
    for group in _portions(with_boundaries(run, backbone, inputs), size):
        walked = random_walk_many(
            [(read["cam"].to(edge.device, non_blocking=True), edge) for read, edge in group],
            beta=beta,
            exp_times=exp_times,
            method=method,
        )
        # One answer for the portion, since a GPU is waited for.
        are_finite = torch.stack([scores.isfinite().all() for scores in walked]).tolist()
        if not all(are_finite):
            raise _not_finite(run, group[are_finite.index(False)][0]["image_id"])
        for (read, _), scores in zip(group, walked, strict=True):
            yield Walked(read["image_id"], read["image"], np.asarray(read["class_ids"]), scores)


@dataclass(frozen=True)
class _Inputs:
    """What a mask is made of: the image, for the network, and its CAMs.

    Both are read in the loader's workers while the network runs in this process.
    """

    pyramids: Any
    files: dict[str, CamFile]
    read: CamReader

    def __len__(self) -> int:
        return len(self.pyramids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        sample = self.pyramids[index]
        cams = self.read(self.files[sample["image_id"]], sample["image"].shape[:2], "cam")
        # A copy, since torch warns of sharing memory that numpy holds read-only.
        return sample | {"class_ids": cams.class_ids, "cam": torch.tensor(cams.cam)}


def _not_finite(run: "Run", image_id: str) -> UserError:
    """CAMs always are finite, so the boundary was not."""
    return UserError(
        f"make_sem_seg: the boundary network's output for {image_id} is not finite. Either the "
        f"weights in {BES_WEIGHTS.file(run).path} are not finite: choose others with "
        "--bes_weights_name, or train them again; or --precision fp16 overflowed: use bf16 or fp32."
    )


def _portions(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Portions of `size` images; only as many are predicted ahead."""
    rest = iter(images)
    while portion := list(islice(rest, size)):
        yield portion


def _on_cpu(walked: Walked) -> Walked:
    import torch

    # Arrays: torch hands tensors to other processes through file descriptors, one each.
    scores = torch.as_tensor(walked.scores).cpu().numpy()
    return walked._replace(image=np.asarray(walked.image), scores=scores)


def _label(walked: Walked, *, background_score: float, crf: str, device: "torch.device") -> Masks:
    """The masks of one image, made on `device`."""
    import torch

    from misc.boundary_label import regions_to_mask
    from misc.crf import MASK_CRF, DenseCrf
    from misc.pseudo_mask import scores_to_regions

    size = (walked.image.shape[0], walked.image.shape[1])
    scores = torch.as_tensor(walked.scores).to(device)
    regions = scores_to_regions(scores, size, background_score)
    field = DenseCrf(walked.image, MASK_CRF, backend=crf, device=device)
    smoothed = field.from_labels(regions, len(walked.class_ids) + 1)
    both = torch.stack([regions, smoothed.to(regions.device)]).cpu().numpy()
    before, after = (regions_to_mask(each, walked.class_ids) for each in both)
    return Masks(walked.image_id, before, after)


def _label_and_write(walked: Walked, *, label: Any, folder: ImageFolder) -> None:
    _write(folder, label(walked))


def _write(folder: ImageFolder, masks: Masks) -> None:
    for suffix, mask in ((".png", masks.mask), (CRF_PNG, masks.smoothed)):
        with atomic_write(folder.file(masks.image_id, suffix)) as file:
            write_palette_png(file, mask)
