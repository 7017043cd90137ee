"""The random walk: class scores that have spread over the pixels up to the boundaries."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from misc.cam_files import Cams, write_irn
from misc.config import Config, setting
from misc.runtime import is_accelerator
from misc.saliency import write_saliency
from misc.workspace import atomic_write
from step.artefacts import BES_WEIGHTS, CAMS, PHOTOGRAPHS, WALKS, boundary_picture, has_walk
from step.common.results import CamFile, CamReader
from step.graph import ImageStep, Work

if TYPE_CHECKING:
    from step.run import Run

IMAGES_A_WALK = 16  # on a GPU, which one image leaves idle


@dataclass(frozen=True)
class Settings:
    """How far the walk goes."""

    heading: ClassVar[str] = "random walk (make_walk)"

    beta: float = setting(5.0, "power of the affinity", above=0, at_most=100)
    exp_times: int = setting(8, "the walk takes 2^exp_times steps", at_least=0, at_most=20)
    walk: str = setting(
        "chebyshev", "chebyshev (fast), or exact: 2^exp_times products", ("chebyshev", "exact")
    )


class MakeWalk(ImageStep):
    """Random walk of every CAM over the pixels.

    The scores are weighted averages of the CAM's, so they lie in 0..1 and are CAMs themselves:
    whatever reads CAM files reads them.
    """

    help = "class scores after the random walk"
    reads = (PHOTOGRAPHS, CAMS, BES_WEIGHTS)
    writes = WALKS
    flags = Settings
    is_only_for_others = True

    def runs_unasked(self, config: Config) -> bool:
        return has_walk(config)

    def images(self, run: "Run") -> list[str]:
        return run.infer_ids

    def make(
        self, work: Work, *, backbone: str, beta: float, exp_times: int, walk: str, cam_dtype: str
    ) -> Iterator[None]:
        """Write the scores of `work.ids`; loaders read, this process has network and walk.

        The boundaries that were walked on are kept as pictures, for people.
        """
        import torch

        from misc.random_walk import random_walk_many
        from step.common.predict import not_finite, with_boundaries
        from voc12.dataloader import ImagePyramids

        run, ids = work.run, work.ids
        cams = CAMS.made(run)
        inputs: Any = _Inputs(ImagePyramids(run.dataset, ids), cams.files(ids), cams.reader)
        size = IMAGES_A_WALK if is_accelerator(run.runtime.device) else 1
        for group in _portions(with_boundaries(run, backbone, inputs), size):
            walked = random_walk_many(
                [(read["cam"].to(edge.device, non_blocking=True), edge) for read, edge in group],
                beta=beta,
                exp_times=exp_times,
                method=walk,
            )
            # One answer for the portion, since a GPU is waited for.
            are_finite = torch.stack([scores.isfinite().all() for scores in walked]).tolist()
            if not all(are_finite):
                first = group[are_finite.index(False)][0]["image_id"]
                # CAMs always are finite, so the boundary was not.
                raise not_finite(run, "the boundary network", first, BES_WEIGHTS)
            for (read, edge), scores in zip(group, walked, strict=True):
                with atomic_write(boundary_picture(run, read["image_id"])) as file:
                    write_saliency(file, edge.float().cpu().numpy())
                _write(work, read, scores.cpu().numpy(), cam_dtype)
                yield


@dataclass(frozen=True)
class _Inputs:
    """What is walked on: the image, for the network, and its CAMs.

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
        size = sample.pop("image").shape[:2]
        cams = self.read(self.files[sample["image_id"]], size, "cam")
        # A copy, since torch warns of sharing memory that numpy holds read-only.
        return sample | {"class_ids": cams.class_ids, "cam": torch.tensor(cams.cam)}


def _portions(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Portions of `size` images; only as many are predicted ahead."""
    rest = iter(images)
    while portion := list(islice(rest, size)):
        yield portion


def _write(work: Work, read: dict[str, Any], scores: np.ndarray, cam_dtype: str) -> None:
    class_ids = np.asarray(read["class_ids"])
    cams = Cams(class_ids, scores, np.zeros((len(class_ids), 0, 0), np.float32))
    with atomic_write(work.files.file(read["image_id"])) as file:
        write_irn(file, cams, cam_dtype, high_res=False, walked=True)
