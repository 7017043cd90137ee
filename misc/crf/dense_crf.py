"""Dense conditional random field: labels or probabilities sharpened by an image.

Mean field over two Gaussian kernels (position; position and colour) and a Potts penalty:
Kraehenbuehl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge
potentials", NIPS 2011. Two backends give the same labels: pydensecrf (C++, CPU) and torch.
"""

import functools
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from misc.crf.mean_field import TorchMeanField
from misc.errors import UserError

Array = TypeVar("Array", np.ndarray, Tensor)
"""numpy in, numpy out; tensor in, tensor on the CRF's device out."""

BACKENDS = ("torch", "pydensecrf")
MAX_LABELS = 255
"""255 itself marks ignored pixels in masks."""
PROBABILITY_FLOOR = 1e-5
"""Probabilities below this count as this (pydensecrf's own clip, and so everyone's)."""
LARGEST_ROW_SUM = 1.5
"""What a kernel adds up to at one pixel, at most. Measured on 20 photographs of VOC 2012 with
DeepLab's CRF: 1.1 (position) and 1.35 (position and colour)."""


@dataclass(frozen=True)
class CrfParams:
    """Standard deviations in pixels (sxy) and grey levels (srgb), weights, and iterations."""

    gaussian_sxy: float = 3.0
    gaussian_compat: float = 3.0
    bilateral_sxy: float = 50.0
    bilateral_srgb: float = 5.0
    bilateral_compat: float = 10.0
    iterations: int = 10


SEED_CRF = CrfParams()
"""IRN, BES and SBE: confident regions from CAMs."""
MASK_CRF = CrfParams(bilateral_sxy=20.0)
"""SBE: pseudo masks after the random walk."""
DEEPLAB_CRF = CrfParams(
    gaussian_sxy=1.0, bilateral_sxy=67.0, bilateral_srgb=3.0, bilateral_compat=4.0
)
"""DeepLab: on probabilities, at test time."""


class DenseCrf:
    """The CRF of one image; whatever depends only on image and parameters is built once.

    It is built when first needed, so an image that is a tensor must stay as it is.
    Labels and probabilities may be numpy arrays or tensors; results are of the same kind,
    tensors on the CRF's device.
    """

    def __init__(
        self,
        image: np.ndarray | Tensor,
        params: CrfParams = SEED_CRF,
        *,
        backend: str = "torch",
        device: str | torch.device = "cpu",
    ) -> None:
        """Take `image` (H,W,3) uint8 RGB.

        Raises UserError on another image, an unknown backend and one that cannot run; standard
        deviations too small for a lattice are found when it is built, by the first inference.
        """
        pixels = _as_tensor(image)
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise UserError(
                f"The CRF needs a uint8 RGB image (H,W,3), got {image.dtype} "
                f"{tuple(image.shape)}. Convert it first."
            )
        self.params = params
        self.device = torch.device(device)
        self.backend = backend
        check_backend(backend, self.device)
        self._pixels = pixels
        self._size = tuple(pixels.shape[:2])

    @functools.cached_property
    def _field(self) -> "_MeanField":
        """The mean field with its lattices, which take most of the time; one label needs none."""
        if self.backend == "torch":
            return TorchMeanField(self._on_device(self._pixels), **asdict(self.params))
        return _PydensecrfField(self._pixels.cpu(), self.params)

    def from_labels(
        self, labels: Array, num_labels: int, gt_prob: float = 0.7, *, unsure: int | None = None
    ) -> Array:
        """Sharpen `labels` (H,W) in 0..num_labels-1; returns uint8 (H,W).

        `gt_prob` is how far the given labels are trusted. Pixels of the value `unsure` may be any
        label; by default there are none (pydensecrf's zero_unsure=False). With one label, an image
        without classes, all is 0. Raises UserError on labels of another size than the image's or
        out of range; what is on a GPU is not looked at, since that would wait for it.
        """
        marginals = self._from_labels([_as_tensor(labels)], num_labels, gt_prob, unsure)
        return _as_kind_of(marginals[0].argmax(0).to(torch.uint8), labels)

    def from_labels_many(
        self, labels: Sequence[Array], num_labels: int, gt_prob: float = 0.7
    ) -> list[Array]:
        """`from_labels` for several labellings of the image; in torch they run as one batch."""
        tensors = [_as_tensor(each) for each in labels]
        marginals = self._from_labels(tensors, num_labels, gt_prob, None)
        results = marginals.argmax(1).to(torch.uint8)
        return [_as_kind_of(each, like) for each, like in zip(results, labels, strict=True)]

    def marginals_from_labels(self, labels: Array, num_labels: int, gt_prob: float = 0.7) -> Array:
        """Marginals float32 (num_labels,H,W) that `from_labels` takes the largest of."""
        marginals = self._from_labels([_as_tensor(labels)], num_labels, gt_prob, None)
        return _as_kind_of(marginals[0], labels)

    def from_probabilities(self, probabilities: Array) -> Array:
        """Marginals float32 (L,H,W) of the CRF on `probabilities` (L,H,W), such as a softmax.

        Raises UserError on another size than the image's.
        """
        unary = -self._probabilities(probabilities).log()
        return _as_kind_of(self._infer(unary[None])[0], probabilities)

    def labels_from_probabilities(self, probabilities: Array) -> Array:
        """Labels uint8 (H,W) of the largest marginals of `probabilities` (L,H,W), a softmax.

        Labels that can win nowhere (`losing_probability`) are put together as one, the rest: it has
        the sum of their probabilities, gets the mean of their messages, as if all had equal shares,
        and is never the answer. So an image takes the time of the classes that it may show. A GPU
        is waited for once more. Raises UserError as `from_probabilities`, and on more than
        `MAX_LABELS` labels.
        """
        given = self._probabilities(probabilities)
        check_count(len(given))
        strongest = given.flatten(1).amax(1)
        bound = losing_probability(len(given), self.params)
        can_win = ~(strongest < strongest.amax().clamp(max=bound))  # what is NaN stays in
        labels = can_win.nonzero()[:, 0]
        likely = given.index_select(0, labels)
        if 1 < len(likely) < len(given):
            rest = given.masked_fill(can_win[:, None, None], 0).sum(0, keepdim=True)
            unary = -torch.cat([likely, rest]).log()
            num_others = len(given) - len(likely)
            winners = self._infer(unary[None], last_stands_for=num_others)[0, :-1].argmax(0)
        else:
            winners = self._infer(-likely.log()[None])[0].argmax(0)
        found = labels.to(torch.uint8).index_select(0, winners.flatten()).view_as(winners)
        return _as_kind_of(found, probabilities)

    def _probabilities(self, probabilities: Array) -> Tensor:
        given = self._on_device(_as_tensor(probabilities)).float()
        if given.ndim != 3 or tuple(given.shape[1:]) != self._size:
            raise UserError(
                f"The CRF got probabilities {tuple(given.shape)} for an image of {self._size}. "
                "Resize them to (L,H,W)."
            )
        return given.clamp(PROBABILITY_FLOOR, 1.0)

    def _from_labels(
        self, labels: list[Tensor], num_labels: int, gt_prob: float, unsure: int | None
    ) -> Tensor:
        check_count(num_labels)
        for each in labels:
            self._check_size(each)
            if each.device.type == "cpu":
                _check_range(each, num_labels, unsure)
        stacked = torch.stack([self._on_device(each) for each in labels])
        return self._infer(unary_from_labels(stacked, num_labels, gt_prob))

    def _infer(self, unary: Tensor, *, last_stands_for: int = 1) -> Tensor:
        """Marginals (B,L,H,W) of energies (B,L,H,W)."""
        if unary.shape[1] == 1:
            return torch.ones_like(unary)
        marginals = self._field.infer(unary.flatten(2), last_stands_for=last_stands_for)
        return marginals.unflatten(2, self._size)

    def _on_device(self, tensor: Tensor) -> Tensor:
        # Only towards a device: on the way back the CPU would read before it has all.
        return tensor.to(self.device, non_blocking=self.device.type != "cpu")

    def _check_size(self, labels: Tensor) -> None:
        if tuple(labels.shape) != self._size:
            raise UserError(
                f"The CRF got labels {tuple(labels.shape)} for an image of {self._size}. "
                "Resize one to the other."
            )


def _check_range(labels: Tensor, num_labels: int, unsure: int | None) -> None:
    known = labels if unsure is None else labels.masked_fill(labels == unsure, 0)
    lowest, highest = (int(extreme) for extreme in known.aminmax())
    if not 0 <= lowest <= highest < num_labels:
        raise UserError(
            f"The CRF got labels {lowest} to {highest}, expected 0 to {num_labels - 1}. "
            "Number them as indices, background 0."
        )


def check_count(num_labels: int) -> None:
    """Raise UserError unless so many labels can be told apart in a mask."""
    if not 1 <= num_labels <= MAX_LABELS:
        raise UserError(f"The CRF takes 1 to {MAX_LABELS} labels, got {num_labels}.")


def losing_probability(num_labels: int, params: CrfParams) -> float:
    """A label of a softmax that is below this at every pixel has the largest marginal at none.

    Let there be L labels, and R the most that both kernels, weighted, add up to at a pixel. If a
    label's marginal is below 1/L everywhere, its messages are below R/L. At a pixel, the sum of
    p exp(message) over all labels is at least the sum of p, which is 1; so after an iteration the
    label's marginal is below p exp(R/L). With p below exp(-R/L)/L it is below 1/L again, and so on
    from p itself. The largest of L marginals, however, is never below 1/L. R is not proven: it is
    taken from `LARGEST_ROW_SUM`.
    """
    row_sum = LARGEST_ROW_SUM * (params.gaussian_compat + params.bilateral_compat)
    return math.exp(-row_sum / num_labels) / num_labels


def check_backend(backend: str, device: torch.device) -> None:
    """Raise UserError unless the backend can run on the device."""
    if backend not in BACKENDS:
        raise UserError(f"Unknown CRF backend {backend!r}. Use one of {', '.join(BACKENDS)}.")
    if backend == "pydensecrf" and device.type != "cpu":
        raise UserError(f"pydensecrf cannot run on {device}. Use the CRF backend torch there.")
    if backend == "pydensecrf" and importlib.util.find_spec("pydensecrf") is None:
        raise UserError(
            "The CRF backend pydensecrf is not installed. Run `pip install pydensecrf2` (Python "
            "below 3.13), or use the backend torch."
        )


def crf_has_threads(backend: str) -> bool:
    """True where a CRF of `backend` takes torch's threads; pydensecrf has one."""
    return backend == "torch"


def crf_device(backend: str, device: torch.device) -> torch.device:
    """Where CRFs of `backend` run on a machine whose networks run on `device`.

    pydensecrf stays on the CPU; torch goes with the networks. Raises UserError as `check_backend`.
    """
    chosen = device if backend == "torch" else torch.device("cpu")
    check_backend(backend, chosen)
    return chosen


def unary_from_labels(labels: Tensor, num_labels: int, gt_prob: float) -> Tensor:
    """Energies float32 (B,L,H,W): `labels` (B,H,W) hold with probability `gt_prob`.

    The rest is shared evenly by the other labels. Where `labels` is none of them, all are equal.
    """
    right = -math.log(gt_prob)
    wrong = -math.log((1 - gt_prob) / max(num_labels - 1, 1))
    index = torch.arange(num_labels, device=labels.device)[:, None, None]
    holds = labels[:, None] == index
    energies = torch.full(holds.shape, wrong, dtype=torch.float32, device=labels.device)
    return energies.masked_fill_(holds, right)


class _MeanField(Protocol):
    def infer(self, unary: Tensor, *, last_stands_for: int) -> Tensor:
        """Marginals float32 (B,L,N) from energies float32 (B,L,N).

        The last label gets its message divided by the number of labels that it stands for.
        """


class _PydensecrfField:
    """pydensecrf's mean field; its lattices serve every inference with as many labels."""

    def __init__(self, image: Tensor, params: CrfParams) -> None:
        self._image = image.numpy()
        self._params = params
        self._crf: Any = None
        self._labels = (0, 1)

    def infer(self, unary: Tensor, *, last_stands_for: int) -> Tensor:
        """Marginals float32 (B,L,N) from energies float32 (B,L,N), one CRF after another."""
        if (unary.shape[1], last_stands_for) != self._labels:
            self._build(unary.shape[1], last_stands_for)
        marginals = np.empty(unary.shape, np.float32)
        for energies, result in zip(unary.numpy(), marginals, strict=True):
            self._crf.setUnaryEnergy(np.ascontiguousarray(energies))
            result[:] = self._crf.inference(self._params.iterations)
        return torch.from_numpy(marginals)

    def _build(self, num_labels: int, last_stands_for: int) -> None:
        from pydensecrf.densecrf import DenseCRF2D

        height, width = self._image.shape[:2]
        params = self._params
        self._labels = (num_labels, last_stands_for)
        heard = np.ones(num_labels, np.float32)
        heard[-1] /= last_stands_for

        def compat(weight: float) -> float | np.ndarray:
            """One penalty for all labels, or what agreement adds to the energy of each."""
            return weight if last_stands_for == 1 else -weight * heard

        self._crf = DenseCRF2D(width, height, num_labels)
        self._crf.addPairwiseGaussian(
            sxy=params.gaussian_sxy, compat=compat(params.gaussian_compat)
        )
        self._crf.addPairwiseBilateral(
            sxy=params.bilateral_sxy,
            srgb=params.bilateral_srgb,
            rgbim=np.ascontiguousarray(self._image),
            compat=compat(params.bilateral_compat),
        )


def _as_tensor(array: np.ndarray | Tensor) -> Tensor:
    # A copy, since torch warns of sharing memory that numpy holds read-only.
    return array.detach() if isinstance(array, Tensor) else torch.tensor(array)


def _as_kind_of(result: Tensor, like: Array) -> Array:
    return result if isinstance(like, Tensor) else result.cpu().numpy()
