"""What the classifier learns from, starts from and is corrected by."""

import logging
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from misc.images import read_image
from misc.runtime import Runtime
from net.backbone import Backbone, FixedBatchNorm2d, build_backbone
from tests.helpers.tiny import run
from tests.helpers.trainings import Says, about_to_train
from voc12.classes import VOC_CLASSES

ALONE = "--steps=train_cam"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def tags_of(root: Path, image_id: str) -> list[float]:
    """From the XML itself: 1 for each class that is there."""
    tree = ElementTree.parse(root / "Annotations" / f"{image_id}.xml")
    names = {each.text for each in tree.findall("object/name")}
    return [float(name in names) for name in VOC_CLASSES]


def save_backbone(path: Path, name: str) -> dict[str, Tensor]:
    """A file as torchvision publishes it: with a head, and with statistics of its own."""
    torch.manual_seed(3)
    state = build_backbone(name, fixed_batch_norm=True).state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    torch.save(dict(state) | {"fc.weight": torch.ones(10, 512), "fc.bias": torch.ones(10)}, path)
    return state


def stage_state(backbone: Backbone, index: int) -> dict[str, Tensor]:
    """Weights and statistics of a stage by torchvision's names."""
    parts = backbone.architecture.stages[index]
    return {k: v for k, v in backbone.state_dict().items() if k.startswith(parts)}


def norms(backbone: Backbone) -> set[type]:
    return {type(m) for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)}


def test_two_rates_and_decay_and_momentum_for_both(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--cam_learning_rate=0.5", "--cam_weight_decay=0.25", "--cam_momentum=0.75")
    it = about_to_train(monkeypatch, tiny_dataset, tmp_path, ALONE, *flags)
    backbone, head = it.optimizer.param_groups
    assert [group["lr"] for group in (backbone, head)] == [0.5, 5.0]
    assert [group["weight_decay"] for group in (backbone, head)] == [0.25] * 2
    assert [group["momentum"] for group in (backbone, head)] == [0.75] * 2
    assert [tuple(p.shape) for p in head["params"]] == [(20, 512, 1, 1)]
    own = it.network.get_submodule("backbone").parameters()
    assert {id(p) for p in backbone["params"]} == {id(p) for p in own}
    assert it.optimizer.max_step == it.plan.num_steps == 4  # type: ignore[attr-defined]
    assert (it.optimizer.power, it.optimizer.every) == (0.9, 1)  # type: ignore[attr-defined]
    assert it.network.training


def test_the_loss_is_this_process_s_share_of_the_mean_over_the_batch(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = about_to_train(monkeypatch, tiny_dataset, tmp_path, ALONE, "--cam_batch_size=4")
    network = Says([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
    batch = {
        "image": torch.full((2, 3, 4, 4), 255, dtype=torch.uint8),
        "box": torch.tensor([[0, 4, 0, 4], [1, 3, 0, 2]]),
        "tags": torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    }
    first = (softplus(-2) + softplus(-1) + softplus(0.5)) / 3
    second = (2 * math.log(2) + softplus(3)) / 3
    assert float(it.loss_of(network, batch)) == pytest.approx((first + second) / 2)
    with monkeypatch.context() as patch:  # the other process has as many
        patch.setattr(Runtime, "sum_over_processes", lambda _, value: 2 * value)
        assert float(it.loss_of(network, batch)) == pytest.approx((first + second) / 4)
    assert network.seen[0, :, 0, 0].tolist() == pytest.approx(
        [(1 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    )
    assert network.seen[1, 0].ne(0).tolist() == [
        [False] * 4, [True, True, False, False], [True, True, False, False], [False] * 4,
    ]  # fmt: skip


def test_each_crop_carries_the_tags_of_its_image(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = about_to_train(monkeypatch, tiny_dataset, tmp_path, ALONE)
    for index, image_id in enumerate(f"2007_{number:06d}" for number in range(1, 9)):
        crop = it.dataset[0, index]
        assert crop["tags"].tolist() == tags_of(tiny_dataset, image_id)
        assert crop["image"].shape == (3, 64, 64)


def test_after_an_epoch_it_tells_the_loss_over_val(
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of whole images cut at their top left corner, by the network in eval mode."""
    it = about_to_train(monkeypatch, tiny_dataset, tmp_path, ALONE, "--cam_batch_size=2")
    assert it.after_epoch is not None
    with caplog.at_level(logging.INFO):
        it.after_epoch(2)
    losses = []
    it.network.eval()
    for image_id in (f"2007_{number:06d}" for number in range(9, 12)):
        image = read_image(tiny_dataset / "JPEGImages" / f"{image_id}.jpg")[:64, :64]
        crop = np.zeros((64, 64, 3))
        crop[: len(image), : image.shape[1]] = (image / 255 - MEAN) / STD
        with torch.no_grad():
            x = torch.from_numpy(crop.astype(np.float32).transpose(2, 0, 1))[None]
            scores = it.network(x)[0].tolist()
        tags = tags_of(tiny_dataset, image_id)
        losses.append(
            np.mean([softplus(-s if t else s) for s, t in zip(scores, tags, strict=True)])
        )
    assert f"train_cam: epoch 2, mean loss over val {np.mean(losses):.4f}" in caplog.text


def test_from_a_file_the_frozen_stages_stay_as_they_are_in_it(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    expected = save_backbone(tmp_path / "resnet18.pth", "resnet18")
    flags = (ALONE, f"--backbone_weights={tmp_path / 'resnet18.pth'}", "--cam_num_epoches=1")
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 0, done.stderr
    trained = torch.load(tmp_path / "out" / "weights" / "cam.pth", weights_only=True)
    backbone = build_backbone("resnet18", fixed_batch_norm=True)
    learns = []
    for index in range(5):
        keys = stage_state(backbone, index)
        same = {key: torch.equal(trained[f"backbone.{key}"], expected[key]) for key in keys}
        learns.append(not all(same.values()))
        # What images there are never changes the statistics of a pretrained network.
        assert all(same[key] for key in keys if "running" in key)
    assert learns == [False, False, False, True, True]


def test_pretrained_its_statistics_are_fixed_and_from_scratch_all_of_it_learns(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_backbone(tmp_path / "file.pth", "resnet18")
    flags = (ALONE, "--cam_train_from=4", f"--backbone_weights={tmp_path / 'file.pth'}")
    pretrained = about_to_train(monkeypatch, tiny_dataset, tmp_path / "a", *flags)
    scratch = about_to_train(monkeypatch, tiny_dataset, tmp_path / "b", ALONE, "--cam_train_from=4")
    kinds, learning = [], []
    for it in (pretrained, scratch):
        backbone = it.network.backbone
        assert isinstance(backbone, Backbone)
        kinds.append(norms(backbone))
        learning.append(
            {n.split(".")[0] for n, p in backbone.named_parameters() if p.requires_grad}
        )
    assert kinds == [{FixedBatchNorm2d}, {nn.BatchNorm2d}]
    everything = {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    assert learning == [{"layer4"}, everything]


def test_seeds_start_from_other_weights(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_weights(seed: int, name: str) -> Tensor:
        flags = (ALONE, f"--seed={seed}")
        it = about_to_train(monkeypatch, tiny_dataset, tmp_path / name, *flags)
        return next(it.network.parameters()).detach()

    five, again, six = (first_weights(s, n) for s, n in ((5, "a"), (5, "b"), (6, "c")))
    assert torch.equal(five, again)
    assert not torch.equal(five, six)
