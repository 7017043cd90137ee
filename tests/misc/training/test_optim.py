import json
from pathlib import Path
from typing import Any

import pytest
import torch

from misc.training import PolySgd
from misc.training.optim import LEGACY_MOMENTUM, POLY_POWER
from tests.helpers.paths import GOLDEN

CURVATURE = torch.arange(1.0, 6.0)
MINIMUM = 0.3
CASES: dict[str, dict[str, Any]] = {
    "bes_like_10": {"lrs": [0.1], "weight_decay": 1e-4, "max_step": 10},
    "cam_like_10": {"lrs": [0.1, 1.0], "weight_decay": 1e-4, "max_step": 10},
    "past_max_5_of_3": {"lrs": [0.1], "weight_decay": 1e-4, "max_step": 3},
    "no_group_wd": {"lrs": [0.1], "weight_decay": 0.0, "max_step": 10},
}


def quadratic_problem(
    lrs: list[float], weight_decay: float, max_step: int, **settings: Any
) -> tuple[list[torch.nn.Parameter], PolySgd]:
    parameters = [
        torch.nn.Parameter(torch.linspace(-1, 1, 5) + 0.1 * index) for index in range(len(lrs))
    ]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, lrs, strict=True)]
    optimizer = PolySgd(groups, lr=0.1, weight_decay=weight_decay, max_step=max_step, **settings)
    return parameters, optimizer


def descend(parameters: list[torch.nn.Parameter], optimizer: PolySgd) -> None:
    optimizer.zero_grad()
    torch.stack([(CURVATURE * (p - MINIMUM) ** 2).sum() for p in parameters]).sum().backward()
    optimizer.step()


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict]:
    return json.loads((GOLDEN / "g4_optimizer.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_rates_and_parameters_are_the_recorded_ones(recorded: dict[str, dict], case: str) -> None:
    parameters, optimizer = quadratic_problem(**CASES[case])
    for group, theirs in zip(optimizer.param_groups, recorded[case]["groups_at_init"], strict=True):
        assert {name: group[name] for name in theirs} == theirs
    steps = zip(recorded[case]["lr_used"], recorded[case]["params"], strict=True)
    for rates, values in steps:
        descend(parameters, optimizer)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(rates, rel=1e-14)
        for parameter, expected in zip(parameters, values, strict=True):
            assert parameter.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_legacy_momentum_is_the_references_weight_decay(recorded: dict[str, dict]) -> None:
    assert recorded["bes_like_10"]["defaults"]["momentum"] == LEGACY_MOMENTUM == 1e-4
    assert recorded["bes_like_10"]["poly_power(self.momentum)"] == POLY_POWER
    _, optimizer = quadratic_problem(**CASES["bes_like_10"], momentum=0.9)
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("stop_after", [0, 4, 10])
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path, stop_after: int) -> None:
    settings = {**CASES["cam_like_10"], "lrs": [0.01, 0.1], "momentum": 0.9}
    unbroken, optimizer = quadratic_problem(**settings)
    for _ in range(12):
        descend(unbroken, optimizer)

    first, optimizer = quadratic_problem(**settings)
    for _ in range(stop_after):
        descend(first, optimizer)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pth")
    second, optimizer = quadratic_problem(**settings)
    with torch.no_grad():
        for here, there in zip(second, first, strict=True):
            here.copy_(there)
    optimizer.load_state_dict(torch.load(tmp_path / "optimizer.pth", weights_only=True))
    assert optimizer.steps_done == stop_after
    for _ in range(12 - stop_after):
        descend(second, optimizer)
    for resumed, expected in zip(second, unbroken, strict=True):
        assert torch.equal(resumed, expected)


def test_frozen_parameters_do_not_decay() -> None:
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    learning = torch.nn.Parameter(torch.ones(2))
    optimizer = PolySgd([frozen, learning], lr=0.1, weight_decay=0.5, max_step=2)
    learning.sum().backward()
    optimizer.step()
    assert frozen.tolist() == [1.0, 1.0]
    assert learning.tolist() == pytest.approx([0.85, 0.85])


def test_a_closure_gives_the_loss() -> None:
    parameters, optimizer = quadratic_problem(**CASES["bes_like_10"])

    def closure() -> float:
        parameters[0].grad = torch.zeros(5)
        return 2.5

    assert optimizer.step(closure) == 2.5
    assert optimizer.steps_done == 1


def test_a_schedule_needs_a_step() -> None:
    with pytest.raises(ValueError, match="max_step is 0"):
        quadratic_problem([0.1], 0.0, 0)


def test_the_rate_may_change_every_tenth_step_only() -> None:
    parameters, optimizer = quadratic_problem([0.1, 1.0], 0.0, 25, every=10)
    rates = []
    for _ in range(27):
        descend(parameters, optimizer)
        rates.append([group["lr"] for group in optimizer.param_groups])
    expected = [(1 - t / 25) ** 0.9 for t in [0] * 10 + [10] * 10 + [20] * 7]
    assert [first for first, _ in rates] == pytest.approx([0.1 * factor for factor in expected])
    assert [second for _, second in rates] == pytest.approx(expected)
    with pytest.raises(ValueError, match="every is 0"):
        quadratic_problem([0.1], 0.0, 25, every=0)


def test_decay_belongs_to_the_groups_that_ask_for_it() -> None:
    weight, bias = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = PolySgd(groups, lr=0.1, weight_decay=0.5, max_step=2)
    (0 * weight + 0 * bias).sum().backward()
    optimizer.step()
    assert [weight.item(), bias.item()] == pytest.approx([0.95, 1.0])
