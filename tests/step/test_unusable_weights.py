"""Weights and checkpoints that cannot be used, and networks that overflow: told by file."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from net.backbone import build_backbone
from net.deeplab_v2 import DeepLabV2
from tests.helpers.segmentation import SEG_FLAGS
from tests.helpers.tiny import Run, copy_run, run, states

State = dict[str, Tensor]


def spoiled(source: Path, target: Path, spoil: Callable[[State], object]) -> Path:
    state = torch.load(source, weights_only=True)
    spoil(state)
    torch.save(state, target)
    return target


def one_nan(state: State) -> None:
    state["backbone.layer1.0.conv1.weight"][3, 0, 1, 1] = float("nan")


def one_infinite(state: State) -> None:
    state["backbone.bn1.running_var"][0] = float("inf")


def complex_numbers(state: State) -> None:
    state["backbone.conv1.weight"] = state["backbone.conv1.weight"].to(torch.complex64)


def no_more_than_a_head(state: State) -> None:
    for name in [name for name in state if name.startswith("backbone.")]:
        del state[name]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (one_nan, "NaN or infinite values in backbone.layer1.0.conv1.weight. Choose others"),
        (one_infinite, "NaN or infinite values in backbone.bn1.running_var."),
        (complex_numbers, "backbone.conv1.weight is complex, not real"),
        (no_more_than_a_head, "missing: backbone.conv1.weight"),
    ],
)
@pytest.mark.parametrize(("name", "step"), [("cam", "make_cam"), ("bes", "make_walk")])
def test_unusable_weights_are_refused_in_the_plan(
    tiny_dataset: Path,
    finished_run: Run,
    tmp_path: Path,
    spoil: Callable[[State], object],
    told: str,
    name: str,
    step: str,
) -> None:
    weights = spoiled(finished_run.out_dir / "weights" / f"{name}.pth", tmp_path / "w.pth", spoil)
    cams = ["--cam_out_dir", str(finished_run.out_dir / "cam")] if name == "bes" else []
    flags = [f"--steps={step}", f"--{name}_weights_name={weights}", *cams]
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 2
    assert f"The weights in {weights}" in done.stderr
    assert told in done.stderr
    assert f"--{name}_weights_name, or delete the file and run train_{name}." in done.stderr
    assert not (tmp_path / "out").exists()


def test_so_are_ours_where_this_run_has_another_network(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    shutil.rmtree(out_dir / "walk")
    before = states(out_dir)
    done = run(tiny_dataset, out_dir, "--steps=make_walk", "--backbone=resnet34")
    assert done.status == 2
    assert "1 problem, and nothing was started" in done.stderr
    assert f"The weights in {out_dir / 'weights' / 'bes.pth'} do not fit" in done.stderr
    assert states(out_dir) == before


@pytest.fixture
def backbone_state() -> State:
    torch.manual_seed(0)
    return dict(build_backbone("resnet18", fixed_batch_norm=True).state_dict())


def plan_with_backbone(root: Path, out_dir: Path, weights: str) -> str:
    done = run(root, out_dir, "--steps=train_cam", f"--backbone_weights={weights}", "--plan")
    assert done.status == 0
    return done.stdout


def test_a_backbone_with_nan_is_named_before_training(
    tiny_dataset: Path, tmp_path: Path, backbone_state: State
) -> None:
    backbone_state["bn1.bias"][0] = float("nan")
    torch.save(backbone_state, tmp_path / "backbone.pth")
    said = plan_with_backbone(tiny_dataset, tmp_path / "out", f"{tmp_path / 'backbone.pth'}")
    assert f"--backbone_weights: The weights in {tmp_path / 'backbone.pth'}" in said
    assert "NaN or infinite values in bn1.bias" in said
    assert "earning rate" not in said


def test_a_backbone_may_have_the_prefix_of_data_parallel(
    tiny_dataset: Path, tmp_path: Path, backbone_state: State
) -> None:
    head = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    state = {f"module.{name}": value for name, value in {**backbone_state, **head}.items()}
    torch.save(state, tmp_path / "backbone.pth")
    said = plan_with_backbone(tiny_dataset, tmp_path / "out", f"{tmp_path / 'backbone.pth'}")
    assert "problem" not in said
    torch.save({**state, "module.extra": torch.zeros(1)}, tmp_path / "backbone.pth")
    said = plan_with_backbone(tiny_dataset, tmp_path / "out", f"{tmp_path / 'backbone.pth'}")
    assert "unknown: module.extra" in said


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def test_of_downloaded_weights_torch_s_advice_is_not_quoted(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that loading them with `weights_only=False` will likely succeed."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    torch.save({"conv1.weight": Hostile()}, cached)
    flags = ["--steps=train_cam", "--backbone_weights=imagenet"]
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 2
    assert f"Cannot read weights from {cached} (UnpicklingError)" in done.stderr
    assert "Delete the file to have it downloaded again" in done.stderr
    assert "weights_only" not in done.stderr
    assert "executed" not in done.stdout
    torch.save({"conv1.weight": torch.zeros(1)}, cached)
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert "1 problem, and nothing was started" in done.stderr
    assert "conv1.weight is (1,), not (64, 3, 7, 7)" in done.stderr
    assert not (tmp_path / "out").exists()


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


SPOILED_CHECKPOINTS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "cut": lambda state: saved(state)[:4000],
    "list": lambda state: saved([1, 2]),
    "step beyond the end": lambda state: saved(state | {"step": 4}),
    "model of other names": lambda state: saved(state | {"model": {"a": torch.zeros(1)}}),
    "optimiser of nothing": lambda state: saved(state | {"optimizer": {}}),
    "optimiser with NaN": lambda state: saved(
        state | {"optimizer": state["optimizer"] | {"state": _with_nan(state)}}
    ),
}


def _with_nan(state: dict[str, Any]) -> dict[int, Any]:
    number, content = next(iter(state["optimizer"]["state"].items()))
    return {number: {"momentum_buffer": content["momentum_buffer"] * float("nan")}}


def interrupt(*_args: object, **_kwargs: object) -> None:
    raise KeyboardInterrupt


def test_a_damaged_checkpoint_says_to_delete_it_and_that_helps(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--steps=train_cam", "--cam_train_from=0"]
    with monkeypatch.context() as patch:
        patch.setattr("misc.weights.save_weights", interrupt)
        assert run(tiny_dataset, tmp_path, *flags).status == 130
    checkpoint = tmp_path / "weights" / "cam.pth.new" / "checkpoint"
    sound = torch.load(checkpoint, weights_only=True)
    assert sound["optimizer"]["state"]
    for name, spoil in SPOILED_CHECKPOINTS.items():
        checkpoint.write_bytes(spoil(sound))
        stopped = run(tiny_dataset, tmp_path, *flags)
        assert stopped.status == 2, name
        last = stopped.stderr.splitlines()[-1]
        assert str(checkpoint) in last, name
        assert last.endswith(
            "Delete this checkpoint: the same command then trains from the start."
        ), name
    checkpoint.unlink()
    done = run(tiny_dataset, tmp_path, *flags)
    assert done.status == 0, done.stderr
    assert "resum" not in done.stderr


def overflow(*names: str) -> Callable[[State], None]:
    """Finite weights, whose products are not."""

    def spoil(state: State) -> None:
        for name in names:
            signs = 1 - 2 * (torch.arange(state[name].numel()) % 2)
            state[name] = (3e38 * signs).reshape(state[name].shape)

    return spoil


@pytest.mark.parametrize(
    ("name", "step", "network", "spoil"),
    [
        ("cam", "make_cam", "the classifier", overflow("classifier.weight")),
        ("bes", "make_walk", "the boundary network", overflow("fc_edge6.weight")),
    ],
)
def test_what_overflows_is_not_written(
    tiny_dataset: Path,
    finished_run: Run,
    tmp_path: Path,
    name: str,
    step: str,
    network: str,
    spoil: Callable[[State], None],
) -> None:
    weights = spoiled(finished_run.out_dir / "weights" / f"{name}.pth", tmp_path / "w.pth", spoil)
    cams = ["--cam_out_dir", str(finished_run.out_dir / "cam")] if name == "bes" else []
    flags = [f"--steps={step}", f"--{name}_weights_name={weights}", *cams]
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 2
    told = f"The output of {network} for 2007_000001 is not finite: it overflows with the weights "
    assert f"{told}in {weights}. Choose others with --{name}_weights_name" in done.stderr
    assert not list((tmp_path / "out").rglob("*.npy"))


def test_so_it_is_with_deeplab(tiny_dataset: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DeepLabV2(build_backbone("squeezenet1_0", fixed_batch_norm=True), 21)
    state = dict(network.state_dict())
    overflow(*(name for name in state if name.startswith("aspp.")))(state)
    torch.save(state, tmp_path / "seg.pth")
    flags = [*SEG_FLAGS, f"--seg_weights_name={tmp_path / 'seg.pth'}"]
    done = run(tiny_dataset, tmp_path / "out", "--steps=make_seg", *flags, "--seg_val_every=0")
    assert done.status == 2
    assert "The output of DeepLab-v2 for 2007_000009 is not finite" in done.stderr
    assert f"{tmp_path / 'seg.pth'}. Choose others with --seg_weights_name" in done.stderr
    assert not list((tmp_path / "out" / "seg").rglob("*.png"))
