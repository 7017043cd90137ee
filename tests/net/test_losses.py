import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from net.losses import BoundaryLoss, boundary_loss, resize_saliency
from tests.helpers.paths import GOLDEN

CASES = ["b4_32", "b3_24x40", "b4_32_nan_sal", "b1_32", "b2_30odd", "b4_32_f64"]
TERMS = {
    "background": "loss_bg_ground",
    "foreground": "loss_fg_ground",
    "boundary": "loss_boundary",
    "boundary_salient": "loss_boundary_sal",
    "boundary_not_salient": "loss_boundary_falsesal",
    "total": "loss",
}


@pytest.fixture(scope="module")
def batches() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "g4_loss.npz") as recorded:
        return {key: torch.from_numpy(recorded[key]) for key in recorded.files}


@pytest.fixture(scope="module")
def recorded_terms() -> dict[str, dict]:
    return json.loads((GOLDEN / "g4_loss.json").read_text())


def inputs(batches: dict[str, torch.Tensor], case: str) -> tuple[torch.Tensor, ...]:
    return batches[f"{case}/logits"], batches[f"{case}/label"], batches[f"{case}/sal"]


def gradient(loss: Callable[[torch.Tensor], torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    logits = logits.clone().requires_grad_()
    loss(logits).backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize("case", CASES)
def test_terms_and_gradient_are_the_recorded_ones(
    batches: dict[str, torch.Tensor], recorded_terms: dict[str, dict], case: str
) -> None:
    logits, codes, saliency = inputs(batches, case)
    tolerance = 1e-12 if case.endswith("f64") else 2e-6
    loss = boundary_loss(logits, codes, saliency)
    for ours, theirs in TERMS.items():
        term = getattr(loss, ours)
        assert str(term.dtype) == recorded_terms[case]["loss_dtype"]
        assert term.item() == pytest.approx(recorded_terms[case][theirs], rel=tolerance)
    slope = gradient(lambda x: boundary_loss(x, codes, saliency).total, logits)
    recorded = batches[f"{case}/grad_logits"]
    assert (slope - recorded).abs().max() <= tolerance * recorded.abs().max()


@pytest.mark.parametrize("case", CASES)
def test_masks_count_as_many_pixels_as_recorded(
    batches: dict[str, torch.Tensor], recorded_terms: dict[str, dict], case: str
) -> None:
    counts: list[float] = []

    def collect(own: torch.Tensor) -> torch.Tensor:
        counts.extend(own.tolist())
        return own

    boundary_loss(*inputs(batches, case), reduce_count=collect)
    recorded = recorded_terms[case]["counts"]
    expected = [recorded["mask_bg_ground"], recorded["mask_fg_ground"]]
    assert counts[:3] == [*expected, recorded_terms[case]["boundary_x_sal"]]
    if not case.endswith("nan_sal"):
        assert counts[2] + counts[3] == recorded["mask_boundary"]


@pytest.mark.parametrize("case", CASES)
def test_saliency_is_resized_as_recorded(batches: dict[str, torch.Tensor], case: str) -> None:
    recorded = batches[f"{case}/sal_interp"]
    ours = resize_saliency(batches[f"{case}/sal"], (recorded.shape[1], recorded.shape[2]))
    assert torch.equal(ours.isnan(), recorded.isnan())
    assert torch.allclose(ours, recorded, rtol=0, atol=1e-12, equal_nan=True)


def test_float32_saliency_gives_the_same_loss(batches: dict[str, torch.Tensor]) -> None:
    logits, codes, saliency = inputs(batches, "b2_30odd")
    assert boundary_loss(logits, codes, saliency.float()) == boundary_loss(logits, codes, saliency)


def test_a_picture_worked_out_by_hand() -> None:
    codes = torch.tensor([[[0, 50, 100, 150, 250, 200, 255]]], dtype=torch.uint8)
    saliency = torch.tensor([[[0.0, 0.0, 0.2, 0.0, 0.9, 1.0, 1.0]]])
    loss = boundary_loss(torch.zeros(1, 1, 1, 7), codes, saliency)
    # p = 1/2 everywhere: -log(1/2) = 0.6931; times sqrt(1/2) on boundaries: 0.4901
    assert loss.background.item() == pytest.approx(0.693147 / 2, abs=1e-6)
    assert loss.foreground.item() == pytest.approx(0.693147 / 2, abs=1e-6)
    assert loss.boundary_salient is not None
    assert loss.boundary_salient.item() == pytest.approx(2 * 0.490129 / 3, abs=1e-6)
    assert loss.boundary_not_salient is not None
    assert loss.boundary_not_salient.item() == pytest.approx(0.490129 / 2, abs=1e-6)

    ablation = boundary_loss(torch.zeros(1, 1, 1, 7), codes, None)
    assert ablation.boundary.item() == pytest.approx(2 * 0.490129 / 3, abs=1e-6)
    assert ablation.boundary_salient is None
    assert ablation.boundary_not_salient is None
    assert ablation.total.item() == pytest.approx(0.693147 / 2 + 2 * 0.490129 / 3, abs=1e-6)


def test_a_batch_without_any_code_costs_nothing() -> None:
    codes = torch.full((2, 3, 3), 200, dtype=torch.uint8)
    loss = boundary_loss(torch.randn(2, 1, 3, 3), codes, torch.zeros(2, 12, 12))
    assert loss.total.item() == 0.0


def test_extreme_logits_stay_finite() -> None:
    codes = torch.tensor([[[0, 150]]], dtype=torch.uint8)
    logits = torch.tensor([[[[1e4, -1e4]]]])
    loss = boundary_loss(logits, codes, torch.ones(1, 1, 2))
    # -log(1e-4) is 9.21; each mean divides by a count of 1 plus 1
    assert loss.total.item() == pytest.approx(9.2103 / 2 + 9.2103 * 0.01 / 2, abs=1e-3)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_judged_in_float32(
    batches: dict[str, torch.Tensor], half: torch.dtype
) -> None:
    logits, codes, saliency = inputs(batches, "b4_32")
    logits = logits.to(half)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = boundary_loss(logits, codes, saliency)
    assert loss.total.dtype == torch.float32
    assert loss == boundary_loss(logits.float(), codes, saliency)


@pytest.mark.parametrize("with_saliency", [True, False])
def test_two_processes_train_as_one_on_the_whole_batch(
    batches: dict[str, torch.Tensor], with_saliency: bool
) -> None:
    logits, codes, sal = inputs(batches, "b4_32_f64")
    saliency = sal if with_saliency else None
    whole = boundary_loss(logits, codes, saliency)
    whole_gradient = gradient(lambda x: boundary_loss(x, codes, saliency).total, logits)
    halves = [slice(0, 1), slice(1, 4)]

    counts: list[torch.Tensor] = []

    def collect(own: torch.Tensor) -> torch.Tensor:
        counts.append(own)
        return own

    def share(
        part: slice, x: torch.Tensor, hook: Callable[[torch.Tensor], torch.Tensor]
    ) -> BoundaryLoss:
        part_saliency = None if saliency is None else saliency[part]
        return boundary_loss(x, codes[part], part_saliency, reduce_count=hook)

    for part in halves:
        share(part, logits[part], collect)
    total_count = counts[0] + counts[1]
    shares = [share(part, logits[part], lambda _: total_count) for part in halves]
    assert sum(s.total.item() for s in shares) == pytest.approx(whole.total.item(), rel=1e-12)

    # Each process sees the whole network, here the logits; its own half alone has a gradient.
    processes = 2

    def of_process(part: slice) -> torch.Tensor:
        return gradient(
            lambda x: processes * share(part, x[part], lambda _: total_count).total, logits
        )

    mean = (of_process(halves[0]) + of_process(halves[1])) / processes
    assert torch.allclose(mean, whole_gradient, rtol=1e-12, atol=0)


def test_sizes_that_disagree_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\) do not fit codes \(1, 4, 5\)"):
        boundary_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 5, dtype=torch.uint8), None)
