"""What the boundary network learns from, starts from and is corrected by."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from misc.training import Learning
from tests.helpers.given import BACKBONE, given_flags
from tests.helpers.trainings import Says, about_to_train

ALONE = "--steps=train_bes"


@pytest.fixture
def begin(
    tiny_dataset: Path, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Begin":
    return Begin(tiny_dataset, given, tmp_path, monkeypatch)


class Begin:
    """Starts the training from what was given."""

    def __init__(self, root: Path, given: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.given, self.folder, self.patch = root, given, folder, patch

    def __call__(self, *flags: str) -> Learning:
        inputs = given_flags(self.given, "cam_weights_name", "boundary_label_dir")
        flags = (ALONE, f"--backbone={BACKBONE}", *inputs, *flags)
        return about_to_train(self.patch, self.root, self.folder / "out", *flags)


def picture() -> dict[str, torch.Tensor]:
    """A batch of one crop, its four labels one of each kind."""
    return {
        "image": torch.full((1, 3, 8, 8), 255, dtype=torch.uint8),
        "box": torch.tensor([[0, 8, 0, 4]]),
        "codes": torch.tensor([[[0, 50], [100, 150]]], dtype=torch.uint8),
        "saliency": torch.tensor([[[1.0, 1.0], [1.0, 0.0]]]),
    }


def test_one_rate_for_the_side_branches_alone(begin: Begin) -> None:
    flags = ("--bes_learning_rate=0.5", "--bes_weight_decay=0.25", "--bes_momentum=0.75")
    it = begin(*flags)
    (group,) = it.optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.5, 0.25, 0.75)
    # Five branches of a convolution and a group norm, and the fusion of them.
    branches = [(32, c, 1, 1) for c in (96, 256, 384, 512, 512)] + [(32,)] * 10
    assert sorted(tuple(p.shape) for p in group["params"]) == sorted(
        [*branches, (1, 160, 1, 1), (1,)]
    )
    assert it.optimizer.max_step == it.plan.num_steps == 4  # type: ignore[attr-defined]
    assert (it.optimizer.power, it.optimizer.every) == (0.9, 1)  # type: ignore[attr-defined]
    assert it.network.training
    assert not it.network.get_submodule("backbone").training


def test_the_loss_weighs_salient_and_other_boundaries_alike(begin: Begin) -> None:
    it, network, batch = begin(), Says(torch.zeros(1, 1, 2, 2)), picture()
    # Each of the four kinds has one pixel, and each mean divides by one more.
    loss = math.log(2) * (1 / 2 + 1 / 2 + 2 * math.sqrt(0.5) / 2)
    assert float(it.loss_of(network, batch)) == pytest.approx(loss)
    assert float(network.seen[0, 0, 0, 0]) == pytest.approx((1 - 0.485) / 0.229)
    assert network.seen[0, :, :, 4:].eq(0).all()


def test_without_saliency_the_loss_is_that_of_bes(begin: Begin) -> None:
    it, batch = begin("--saliency=none"), picture()
    del batch["saliency"]
    loss = math.log(2) * ((1 / 2 + 1 / 2) / 2 + 2 * math.sqrt(0.5) / 3)
    assert float(it.loss_of(Says(torch.zeros(1, 1, 2, 2)), batch)) == pytest.approx(loss)


@pytest.mark.parametrize("has_saliency", [True, False])
def test_crops_carry_the_labels_and_the_saliency_of_their_image(
    begin: Begin, has_saliency: bool
) -> None:
    it = begin(*([] if has_saliency else ["--saliency=none"]))
    crops = [it.dataset[0, index] for index in range(8)]
    codes = np.unique(np.concatenate([crop["codes"].flatten() for crop in crops]))
    assert set(codes.tolist()) == {0, 50, 150, 255}  # those that were given, and none outside
    assert [("saliency" in crop) for crop in crops] == [has_saliency] * 8
    if has_saliency:
        assert max(float(crop["saliency"].max()) for crop in crops) == 1
