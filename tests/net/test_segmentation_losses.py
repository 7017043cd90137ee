import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from net.segmentation_losses import segmentation_loss, shrink_mask


def logits_of(probabilities: list[list[float]]) -> Tensor:
    """(1,C,1,N) logits of N pixels with the given class probabilities."""
    return torch.tensor(probabilities).log().T[None, :, None, :]


def mask_of(*values: int) -> Tensor:
    return torch.tensor([[values]], dtype=torch.uint8)


PIXELS = logits_of([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])


def test_the_mean_is_over_the_pixels_that_are_not_ignored() -> None:
    loss = segmentation_loss([PIXELS], mask_of(0, 1, 255, 2))
    expected = -(math.log(0.5) + math.log(0.8) + math.log(0.05)) / 3
    assert float(loss) == pytest.approx(expected)


def test_balanced_background_and_foreground_weigh_the_same() -> None:
    loss = segmentation_loss([PIXELS], mask_of(0, 1, 255, 2), balanced=True)
    expected = (-math.log(0.5) - (math.log(0.8) + math.log(0.05)) / 2) / 2
    assert float(loss) == pytest.approx(expected)


def test_balanced_a_missing_kind_adds_nothing() -> None:
    loss = segmentation_loss([PIXELS], mask_of(1, 1, 255, 255), balanced=True)
    assert float(loss) == pytest.approx(-(math.log(0.25) + math.log(0.8)) / 2 / 2)


@pytest.mark.parametrize("balanced", [False, True])
def test_an_image_of_ignored_pixels_costs_nothing(balanced: bool) -> None:
    logits = PIXELS.clone().requires_grad_()
    loss = segmentation_loss([logits], mask_of(255, 255, 255, 255), balanced=balanced)
    loss.backward()
    assert loss.detach().item() == 0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


def test_a_pixel_costs_what_torch_says_bit_by_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    theirs = torch.randn(2, 21, 9, 7, generator=generator).mul_(5).requires_grad_()
    ours = theirs.detach().clone().requires_grad_()
    mask = torch.randint(0, 21, (2, 9, 7), generator=generator).to(torch.uint8)
    mask[:, :2] = 255
    expected = F.cross_entropy(theirs, mask.long(), ignore_index=255, reduction="none").sum()
    (expected / (2 * 7 * 7)).backward()
    loss = segmentation_loss([ours], mask)
    loss.backward()
    assert loss.item() == (expected / (2 * 7 * 7)).item()
    assert theirs.grad is not None
    assert ours.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


def test_the_losses_of_the_scales_are_summed_each_against_its_own_mask() -> None:
    small = logits_of([[0.7, 0.2, 0.1]])
    mask = mask_of(0, 1, 2)
    both = segmentation_loss([PIXELS[..., :3], small], mask)
    first = segmentation_loss([PIXELS[..., :3]], mask)
    # The one cell's centre is the middle pixel, of class 1.
    assert float(both) == pytest.approx(float(first) - math.log(0.2))


@pytest.mark.parametrize("size", [(5, 7), (9, 4), (1, 1), (20, 26)])
def test_masks_shrink_as_pillow_shrinks_them(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).integers(0, 256, (20, 26)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    assert np.array_equal(shrink_mask(torch.from_numpy(mask)[None], size)[0].numpy(), expected)


def test_a_mask_at_stride_8_keeps_its_ids_and_its_border() -> None:
    mask = torch.full((1, 16, 24), 255, dtype=torch.uint8)
    mask[0, :8, :8], mask[0, 8:, 16:] = 3, 20
    assert shrink_mask(mask, (2, 3)).tolist() == [[[3, 255, 255], [255, 255, 20]]]


@pytest.mark.parametrize("balanced", [False, True])
def test_the_shares_of_two_processes_add_up_to_the_whole_batch(balanced: bool) -> None:
    torch.manual_seed(0)
    logits = [torch.randn(4, 5, 6, 6), torch.randn(4, 5, 3, 3)]
    mask = torch.randint(0, 5, (4, 12, 12), dtype=torch.uint8)
    mask[0, :9] = 255
    whole = segmentation_loss(logits, mask, balanced=balanced)
    parts = [slice(0, 1), slice(1, 4)]

    def share(part: slice, reduce_count: Callable[[Tensor], Tensor]) -> Tensor:
        halves = [each[part] for each in logits]
        return segmentation_loss(halves, mask[part], balanced=balanced, reduce_count=reduce_count)

    counts: list[Tensor] = []

    def remember(count: Tensor) -> Tensor:
        counts.append(count)
        return count

    for part in parts:
        share(part, remember)
    total = torch.stack(counts).sum(0)
    shares = [share(part, lambda _: total) for part in parts]
    assert float(sum(shares)) == pytest.approx(float(whole))


def test_half_precision_logits_are_summed_in_single() -> None:
    logits = torch.zeros(1, 2, 300, 300, dtype=torch.bfloat16)
    loss = segmentation_loss([logits], torch.zeros(1, 300, 300, dtype=torch.uint8))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(2), rel=1e-5)
