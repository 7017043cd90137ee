"""Cross-entropy of a segmentation network over its scales."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from misc.codes import VOID

BACKGROUND = 0


def segmentation_loss(
    logits: Sequence[Tensor],
    mask: Tensor,
    *,
    balanced: bool = False,
    reduce_count: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Sum over the scales of the mean cross-entropy, each against the mask at its own size.

    Args:
        logits: a (B,C,h,w) for each scale, of any floating type; computed in float32 at least.
        mask: (B,H,W) class ids, 0 background, 255 ignored.
        balanced: half the mean over background pixels plus half that over foreground pixels, so
            that rare foreground is not drowned; otherwise the mean over all pixels.
        reduce_count: for data-parallel training. It gets the pixel counts as one float vector and
            returns their sum over all processes; the losses of the processes then add up to that of
            the whole batch.

    Returns:
        a scalar; nothing is added by pixels of a kind that does not occur.
    """
    sums, counts = [], []
    for each in logits:
        target = shrink_mask(mask, (each.shape[2], each.shape[3])).long()
        wide = each.to(torch.promote_types(each.dtype, torch.float32))
        losses = _cross_entropy(wide, target)
        for chosen in _kinds(target, balanced):
            sums.append((losses * chosen).sum())
            counts.append(chosen.sum())
    total = torch.stack(counts).to(sums[0].dtype)
    if reduce_count is not None:
        total = reduce_count(total)
    loss = (torch.stack(sums) / total.clamp(min=1)).sum()
    return loss / 2 if balanced else loss


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """F.cross_entropy, pixel by pixel, bit by bit: logits (B,C,h,w), ids (B,h,w); void has 0.

    CUDA has no kernel of that one for maps which gives the same bits each time.
    """
    is_void = target == VOID
    known = target.masked_fill(is_void, 0)[:, None]
    log_probabilities = F.log_softmax(logits, dim=1).gather(1, known)[:, 0]
    return (-log_probabilities).masked_fill(is_void, 0)


def _kinds(target: Tensor, balanced: bool) -> list[Tensor]:
    """Masks of the pixels that are averaged together."""
    if balanced:
        return [target == BACKGROUND, (target != BACKGROUND) & (target != VOID)]
    return [target != VOID]


def shrink_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Class ids (B,H,W) at `size` (h,w): of each cell, the pixel at its centre."""
    # nearest-exact takes the centre, as Pillow does; "nearest" would take the top left corner.
    return F.interpolate(mask[:, None].float(), size, mode="nearest-exact")[:, 0].to(mask.dtype)
