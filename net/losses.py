"""Losses of the boundary network (step/README.md, train_bes)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from misc.codes import BoundaryLabel

PROBABILITY_FLOOR = 1e-4
FOCUS = 0.5


class BoundaryLoss(NamedTuple):
    """Scalar terms of the boundary loss; `total` is what trains.

    `boundary` is `boundary_salient` + `boundary_not_salient`; these two are None without saliency.
    """

    background: Tensor
    foreground: Tensor
    boundary: Tensor
    boundary_salient: Tensor | None
    boundary_not_salient: Tensor | None
    total: Tensor


def boundary_loss(
    logits: Tensor,
    boundary_codes: Tensor,
    saliency: Tensor | None,
    *,
    reduce_count: Callable[[Tensor], Tensor] | None = None,
) -> BoundaryLoss:
    """Push the boundary down inside regions and up on boundary labels, salient or not alike.

    Each term is a mean over its own mask, so boundaries inside and outside the salient object weigh
    the same however few they are. Pixels whose saliency is NaN are in neither.

    Args:
        logits: (B,1,h,w), of any floating type; computed in float32 at least.
        boundary_codes: (B,h,w) `BoundaryLabel` codes.
        saliency: (B,H,W) >= 0 at any size, or None for the ablation without saliency (BES).
        reduce_count: for data-parallel training. It gets the pixel counts of the masks as one
            float vector and returns their sum over all processes. The loss of one process is then
            its share of the whole batch's: the shares add up. Where the gradients of W processes
            are averaged, multiply `total` by W to train as on the whole batch.

    Raises:
        ValueError: logits and codes differ in size.
    """
    if logits.shape != (len(logits), 1, *boundary_codes.shape[1:]):
        raise ValueError(
            f"logits {tuple(logits.shape)} do not fit codes {tuple(boundary_codes.shape)}"
        )
    logits = logits[:, 0].to(torch.promote_types(logits.dtype, torch.float32))
    p = torch.sigmoid(logits).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    not_boundary = -torch.log(1 - p)
    is_boundary = -torch.log(p) * p.detach() ** FOCUS

    boundaries = _boundary_masks(boundary_codes, saliency, (p.shape[1], p.shape[2]))
    background, foreground, *boundary_terms = _masked_means(
        [
            (not_boundary, boundary_codes == BoundaryLabel.BACKGROUND),
            (not_boundary, boundary_codes == BoundaryLabel.FOREGROUND),
            *((is_boundary, mask) for mask in boundaries),
        ],
        reduce_count,
    )
    if saliency is None:
        (boundary,) = boundary_terms
        total = (background + foreground) / 2 + boundary
        return BoundaryLoss(background, foreground, boundary, None, None, total)
    salient, not_salient = boundary_terms
    boundary = salient + not_salient
    total = background + foreground + boundary
    return BoundaryLoss(background, foreground, boundary, salient, not_salient, total)


def _boundary_masks(
    codes: Tensor, saliency: Tensor | None, size: tuple[int, int]
) -> tuple[Tensor, ...]:
    """Boundary pixels (B,h,w) inside and outside the salient object; or, without saliency, all."""
    on_boundary = codes == BoundaryLabel.BETWEEN_CLASSES
    on_boundary |= codes == BoundaryLabel.AROUND_FOREGROUND
    if saliency is None:
        return (on_boundary,)
    on_boundary |= codes == BoundaryLabel.SALIENCY_EDGE
    saliency = resize_saliency(saliency, size)
    return on_boundary & (saliency > 0), on_boundary & (saliency == 0)


def resize_saliency(saliency: Tensor, size: tuple[int, int]) -> Tensor:
    """(B,H,W) to (B,h,w), bilinear without antialiasing: a pixel sees only its four neighbours."""
    return F.interpolate(saliency[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _masked_means(
    terms: list[tuple[Tensor, Tensor]], reduce_count: Callable[[Tensor], Tensor] | None
) -> list[Tensor]:
    """sum(value * mask) / (count(mask) + 1) of each term, counts taken over all processes."""
    sums = [(value * mask).sum() for value, mask in terms]
    counts = torch.stack([mask.sum() for _, mask in terms]).to(sums[0].dtype)
    if reduce_count is not None:
        counts = reduce_count(counts)
    return [total / (count + 1) for total, count in zip(sums, counts, strict=True)]
