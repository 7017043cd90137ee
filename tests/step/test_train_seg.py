from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import step.train_seg
from tests.segmentation import notes_of, run_seg, scores_of, weights_of
from tests.tiny import Run

ONE_SEED = "--seg_seeds=0"
Loss = Callable[..., Tensor]


def loss_that(happens: Callable[[Tensor], Tensor], at_call: int) -> Loss:
    """The step's loss, but for one call."""
    calls = 0
    real = step.train_seg.segmentation_loss

    def loss(*args: Any, **options: Any) -> Tensor:
        nonlocal calls
        calls += 1
        value = real(*args, **options)
        return happens(value) if calls == at_call else value

    return loss


def interrupt(_loss: Tensor) -> Tensor:
    raise KeyboardInterrupt


def become_nan(loss: Tensor) -> Tensor:
    return loss * float("nan")


def test_every_seed_leaves_its_last_and_its_best_weights(segmented: Run) -> None:
    there = {path.name for path in (segmented.out_dir / "weights").iterdir()}
    names = {f"seg_seed{seed}" for seed in (0, 1)}
    assert there == {
        f"{name}{ending}"
        for name in names
        for ending in (".pth", ".pth.json", ".pth.notes.json", "_best.pth")
    }
    assert weights_of(segmented, "seg_seed0.pth") != weights_of(segmented, "seg_seed1.pth")
    said = scores_of(segmented, "train_seg")
    assert said["seeds"] == [0, 1]
    assert said["images"] == 2 * 4 * 2 * 2  # seeds, updates, batches an update, images a batch
    assert said["initialisation"] == "random"
    assert said["labels"] == "the exact masks"


def test_the_notes_name_the_start_and_every_look_at_val(segmented: Run) -> None:
    for seed in (0, 1):
        notes = notes_of(segmented, f"seg_seed{seed}.pth")
        assert [entry["updates"] for entry in notes["validation"]] == [2, 4]
        best = max(notes["validation"], key=lambda entry: entry["miou"])
        assert notes["best"] == best
        assert notes["updates"] == 4
        assert notes["initialisation"] == "random"
        last, kept = (
            weights_of(segmented, f"seg_seed{seed}{ending}.pth") for ending in ("", "_best")
        )
        assert (last == kept) == (best["updates"] == 4)
    assert "starts from: random; learns from: the exact masks" in segmented.stderr
    assert "train_seg: mIoU on val" in segmented.stderr


@pytest.mark.parametrize(("happens", "status"), [(interrupt, 130), (become_nan, 2)])
def test_stopped_or_at_a_nan_it_keeps_the_last_checkpoint_and_goes_on_from_it(
    tiny_dataset: Path,
    segmented: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Tensor], Tensor],
    status: int,
) -> None:
    flags = (ONE_SEED, "--steps=train_seg")
    with monkeypatch.context() as patch:
        patch.setattr("step.train_seg.segmentation_loss", loss_that(happens, at_call=7))
        stopped = run_seg(tiny_dataset, tmp_path, *flags)
    assert stopped.status == status
    if status == 2:
        assert "train_seg: the loss became nan at step 7" in stopped.stderr
        assert "Lower the learning rate; the last checkpoint is kept" in stopped.stderr
        assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "weights" / "seg_seed0.pth").exists()
    kept = torch.load(tmp_path / "weights" / "seg_seed0.pth.checkpoint", weights_only=True)
    assert kept["step"] == 6
    assert all(value.isfinite().all() for value in kept["model"].values())
    resumed = run_seg(tiny_dataset, tmp_path, *flags)
    assert resumed.status == 0
    assert "train_seg goes on after step 6 of 8" in resumed.stderr
    for name in ("seg_seed0.pth", "seg_seed0_best.pth", "seg_seed0.pth.notes.json"):
        assert weights_of(resumed, name) == weights_of(segmented, name), name
    assert not list(tmp_path.rglob("*.checkpoint"))
