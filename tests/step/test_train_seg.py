import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor

import net.segmentation_losses
from misc.images import read_mask, voc_palette, write_palette_png
from misc.mask_files.convert import main as convert_masks
from net.backbone import build_backbone
from net.deeplab_v2 import DeepLabV2
from step.graph import full_config_class
from step.train_seg import make_optimizer
from tests.helpers.cam_writers import save as save_record
from tests.helpers.segmentation import (
    SEG_FLAGS,
    TRAIN_ONLY,
    notes_of,
    run_seg,
    scores_of,
    weights_of,
)
from tests.helpers.tiny import Run, arguments, copy_dataset, copy_run, run_of, start, states
from tests.helpers.trainings import about_to_train
from tests.net.test_segmentation_init import caffe_state, irn_state

ONE_SEED = "--seg_seeds=0"
ONCE = (*TRAIN_ONLY, "--seg_iters=1")
Loss = Callable[..., Tensor]


def loss_that(happens: Callable[[Tensor], Tensor], at_call: int) -> Loss:
    """The step's loss, but for one call."""
    calls = 0
    real = net.segmentation_losses.segmentation_loss

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


def get_an_infinite_gradient(loss: Tensor) -> Tensor:
    return loss + (loss - loss.detach()).sqrt()


def state_of(done: Run, name: str = "seg.pth") -> dict[str, Tensor]:
    return torch.load(done.out_dir / "weights" / name, weights_only=True)


def same_masks(root: Path, folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A folder of masks to learn from: the exact ones, changed."""
    folder.mkdir()
    for path in (root / "SegmentationClass").glob("*.png"):
        write_palette_png(folder / path.name, change(read_mask(path)))
    return folder


def test_every_seed_leaves_its_last_and_its_best_weights(segmented: Run) -> None:
    there = {path.name for path in (segmented.out_dir / "weights").iterdir()}
    names = {f"seg_seed{seed}" for seed in (0, 1)}
    assert there == {
        f"{name}{ending}"
        for name in names
        for ending in (
            ".pth",
            ".pth.json",
            ".pth.notes.json",
            ".curve.csv",
            ".val.csv",
            "_best.pth",
        )
    }
    assert weights_of(segmented, "seg_seed0.pth") != weights_of(segmented, "seg_seed1.pth")
    for seed in (0, 1):
        said = scores_of(segmented, f"train_seg_seed{seed}")
        assert run_of(segmented.out_dir)["steps"][f"train_seg_seed{seed}"]["seed"] == seed
        assert said["images"] == 4 * 2 * 2  # updates, batches per update, images per batch
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
        table = (segmented.out_dir / "weights" / f"seg_seed{seed}.val.csv").read_text()
        header, *rows = table.splitlines()
        assert header == "update,miou"
        assert rows == [f"{each['updates']},{each['miou']:.6g}" for each in notes["validation"]]
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
        patch.setattr("net.segmentation_losses.segmentation_loss", loss_that(happens, at_call=7))
        stopped = run_seg(tiny_dataset, tmp_path, *flags)
    assert stopped.status == status
    if status == 2:
        assert "train_seg (seed 0): the loss became nan at step 7" in stopped.stderr
        checkpoint = tmp_path / "weights" / "seg_seed0.pth.new" / "checkpoint"
        assert f"the last checkpoint, {checkpoint}, is kept" in stopped.stderr
        assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "weights" / "seg_seed0.pth").exists()
    kept = torch.load(tmp_path / "weights/seg_seed0.pth.new/checkpoint", weights_only=True)
    assert kept["step"] == 6
    assert all(value.isfinite().all() for value in kept["model"].values())
    resumed = run_seg(tiny_dataset, tmp_path, *flags)
    assert resumed.status == 0
    assert "train_seg (seed 0): resuming at step 6 of 8" in resumed.stderr
    for name in ("seg_seed0.pth", "seg_seed0_best.pth", "seg_seed0.pth.notes.json"):
        assert weights_of(resumed, name) == weights_of(segmented, name), name
    assert not list(tmp_path.rglob("*.new"))


def test_a_rate_that_is_too_high_ends_with_a_message_and_no_broken_weights(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    stopped = run_seg(
        tiny_dataset, tmp_path, *TRAIN_ONLY, "--seg_learning_rate=100", "--seg_momentum=0.99"
    )
    assert stopped.status == 2
    assert "Lower the learning rate" in stopped.stderr
    assert not (tmp_path / "weights" / "seg.pth").exists()
    for path in tmp_path.rglob("checkpoint"):
        kept = torch.load(path, weights_only=True)
        assert all(value.isfinite().all() for value in kept["model"].values())


def test_what_the_message_about_a_nan_says_to_do_works(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("net.segmentation_losses.segmentation_loss", loss_that(become_nan, at_call=2))
        stopped = run_seg(tiny_dataset, tmp_path, *TRAIN_ONLY)
    assert stopped.status == 2
    assert stopped.stderr.endswith("at step 2. Lower the learning rate.\n")
    lower = (*TRAIN_ONLY, "--seg_learning_rate=0.001")
    with monkeypatch.context() as patch:
        patch.setattr("net.segmentation_losses.segmentation_loss", loss_that(become_nan, at_call=5))
        stopped = run_seg(tiny_dataset, tmp_path, *lower)  # there was no checkpoint to lose
    assert stopped.status == 2
    assert (
        "Lower the learning rate, and pass --overwrite to train again from the start"
        in stopped.stderr
    )
    lower = (*TRAIN_ONLY, "--seg_learning_rate=0.0005")
    refused = run_seg(tiny_dataset, tmp_path, *lower)
    assert refused.status == 2
    assert "stopped training: --seg_learning_rate was 0.001, is 0.0005" in refused.stderr
    done = run_seg(tiny_dataset, tmp_path, *lower, "--overwrite")
    assert done.status == 0, done.stderr
    assert weights_of(done)


def test_weights_that_are_not_finite_are_neither_scored_nor_kept_as_the_best(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = loss_that(get_an_infinite_gradient, at_call=2)
    monkeypatch.setattr("net.segmentation_losses.segmentation_loss", loss)
    flags = ("--steps=train_seg", "--seg_val_every=1", "--checkpoint_every=100")
    stopped = run_seg(tiny_dataset, tmp_path, *flags)
    assert stopped.status == 2
    assert "is not finite after step 2. Lower the learning rate" in stopped.stderr
    assert "mIoU on val" not in stopped.stderr
    assert {path.name for path in tmp_path.rglob("*.pth*")} == {"seg.pth.new"}
    assert not list(tmp_path.rglob("checkpoint"))


def test_a_folder_of_masks_teaches_what_the_exact_ones_in_it_do(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    folder = same_masks(tiny_dataset, tmp_path / "masks", lambda mask: mask)
    exact = run_seg(tiny_dataset, tmp_path / "a", *TRAIN_ONLY)
    from_folder = run_seg(tiny_dataset, tmp_path / "b", *TRAIN_ONLY, f"--seg_label_dir={folder}")
    assert weights_of(exact) == weights_of(from_folder)
    assert scores_of(from_folder, "train_seg")["labels"] == str(folder)
    changed = folder / "2007_000001.png"
    write_palette_png(changed, np.zeros_like(read_mask(changed)))
    again = run_seg(tiny_dataset, tmp_path / "b", *TRAIN_ONLY, f"--seg_label_dir={folder}")
    assert again.status == 2
    assert "train_seg: the masks to learn from changed" in again.stderr
    (folder / "2007_000002.png").unlink()
    lacking = run_seg(tiny_dataset, tmp_path / "c", *TRAIN_ONLY, f"--seg_label_dir={folder}")
    assert lacking.status == 2
    assert f"{folder} lacks the masks of 1 image ({folder}/2007_000002.png)" in lacking.stderr
    assert "choose another --seg_label_dir" in lacking.stderr


@pytest.mark.parametrize("kind", ["colours", "scores"])
def test_so_do_the_same_masks_as_other_methods_publish_them(
    tiny_dataset: Path, tmp_path: Path, kind: str
) -> None:
    """In the palette's colours as they are; scores of a network after their conversion."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for path in (tiny_dataset / "SegmentationClass").glob("*.png"):
        mask = np.where(read_mask(path) == 255, 0, read_mask(path))
        if kind == "colours":
            Image.fromarray(voc_palette()[mask]).save(folder / path.name)
        else:
            scores = (mask == np.arange(21)[:, None, None]).astype(np.float32)[None]
            save_record(folder / f"{path.stem}.npy", {"msc_seg": scores})
    if kind == "scores":
        stopped = run_seg(
            tiny_dataset, tmp_path / "a", "--steps=eval_cam", f"--cam_out_dir={folder}"
        )
        assert stopped.status == 2
        assert "Turn the folder into masks with python -m misc.mask_files SRC DST" in stopped.stderr
        assert convert_masks([str(folder), str(tmp_path / "ids"), "--num_workers=0"]) == 0
        folder = tmp_path / "ids"
    same = same_masks(tiny_dataset, tmp_path / "same", lambda mask: mask * (mask != 255))
    done, expected = (
        run_seg(tiny_dataset, tmp_path / name, *ONCE, f"--seg_label_dir={labels}")
        for name, labels in (("b", folder), ("c", same))
    )
    assert weights_of(done) == weights_of(expected)


def test_the_default_masks_are_those_after_the_crf(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    pseudo = run_seg(tiny_dataset, out_dir, *TRAIN_ONLY, "--seg_label_dir=pseudo")
    assert scores_of(pseudo, "train_seg")["labels"] == f"pseudo masks, {out_dir / 'sem_seg'}"
    folder = tmp_path / "crf"
    folder.mkdir()
    for path in (out_dir / "sem_seg").glob("*_crf.png"):
        shutil.copy(path, folder / path.name.replace("_crf", ""))
    copied = run_seg(tiny_dataset, tmp_path / "b", *TRAIN_ONLY, f"--seg_label_dir={folder}")
    assert weights_of(pseudo) == weights_of(copied)
    without = run_seg(tiny_dataset, tmp_path / "c", *TRAIN_ONLY, "--seg_label_dir=pseudo")
    assert without.status == 2
    assert "Run make_sem_seg with --infer_list train_aug" in without.stderr


def test_ignored_pixels_teach_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    nothing = same_masks(tiny_dataset, tmp_path / "masks", lambda mask: np.full_like(mask, 255))
    two = tmp_path / "two.txt"  # more such masks are refused: nobody means them
    two.write_text("2007_000001\n2007_000002\n")
    flags = (f"--seg_label_dir={nothing}", "--seg_weight_decay=0")
    short = (*TRAIN_ONLY, f"--train_aug_list={two}")
    ignorant = run_seg(tiny_dataset, tmp_path / "a", *short, *flags)
    untrained = run_seg(tiny_dataset, tmp_path / "b", *short, "--seg_learning_rate=0")
    assert scores_of(ignorant, "train_seg")["loss"] == 0
    assert weights_of(ignorant) == weights_of(untrained)


@pytest.mark.parametrize(
    "flag", ["--seg_balanced", "--seg_pyramid=1", "--seg_rescale=1", "--seg_accumulation=1"]
)
def test_every_setting_of_the_protocol_counts_and_is_kept(
    tiny_dataset: Path, segmented: Run, tmp_path: Path, flag: str
) -> None:
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    before = states(out_dir)
    refused = run_seg(tiny_dataset, out_dir, "--steps=train_seg", ONE_SEED, flag)
    assert refused.status == 2
    assert f"{flag.split('=')[0]} was" in refused.stderr
    assert states(out_dir) == before
    other = run_seg(tiny_dataset, tmp_path / "other", *TRAIN_ONLY, ONE_SEED, flag)
    assert weights_of(other, "seg_seed0.pth") != weights_of(segmented, "seg_seed0.pth")


def test_a_second_start_trains_nothing_and_overwrite_trains_anew(
    tiny_dataset: Path, segmented: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    before = states(out_dir)
    with monkeypatch.context() as patch:
        patch.setattr("net.backbone.build_backbone", None)
        flags = ("--seg_seeds=0,1", "--eval_classes=cat,cow")
        assert run_seg(tiny_dataset, out_dir, *flags).status == 0
    assert states(out_dir) == before
    anew = ("--steps=train_seg", ONE_SEED, "--seg_val_every=0", "--overwrite", "all")
    assert run_seg(tiny_dataset, out_dir, *anew).status == 0
    weights = out_dir / "weights"
    assert not (weights / "seg_seed0_best.pth").exists()
    assert (weights / "seg_seed1_best.pth").exists()
    assert (weights / "seg_seed0.pth").read_bytes() == weights_of(segmented, "seg_seed0.pth")


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_file_of_the_users_that_is_named_like_the_best_is_refused_and_kept(
    tiny_dataset: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model_best.pth").write_bytes(b"months of work")
    flags = ("--steps=train_seg", f"--seg_weights_name={mine}/model.pth", *more)
    refused = run_seg(tiny_dataset, tmp_path / "out", *flags)
    assert refused.status == 2
    assert f"{mine}/model_best.pth is where the best weights on val would go" in refused.stderr
    assert "choose other weights with --seg_weights_name" in refused.stderr
    assert {path.name for path in mine.iterdir()} == {"model_best.pth"}
    assert (mine / "model_best.pth").read_bytes() == b"months of work"
    (mine / "model_best.pth").unlink()
    assert run_seg(tiny_dataset, tmp_path / "out", *flags).status == 0
    again = run_seg(tiny_dataset, tmp_path / "out", *flags, "--overwrite")
    assert again.status == 0, again.stderr
    assert (mine / "model_best.pth").exists()


def test_notes_that_an_older_training_left_are_not_taken_for_this_ones(
    tiny_dataset: Path, segmented: Run, tmp_path: Path
) -> None:
    notes = tmp_path / "weights" / "seg_seed0.pth.notes.json"
    notes.parent.mkdir()
    best = {"updates": 2, "miou": 1.0}
    notes.write_text(json.dumps({"validation": [best], "best": best}))
    done = run_seg(tiny_dataset, tmp_path, "--steps=train_seg", ONE_SEED)
    for name in ("seg_seed0_best.pth", "seg_seed0.pth.notes.json"):
        assert weights_of(done, name) == weights_of(segmented, name), name


def test_without_a_list_of_val_there_is_no_best(tiny_dataset: Path, tmp_path: Path) -> None:
    root = copy_dataset(tiny_dataset, tmp_path / "voc")
    (root / "ImageSets" / "Segmentation" / "val.txt").unlink()
    done = run_seg(root, tmp_path / "out", "--make_seg_split=train")
    assert done.status == 0, done.stderr
    assert "there is no list val, so no best weights are kept" in done.stderr
    assert scores_of(done).keys() >= {"last"}
    assert "best" not in scores_of(done)


def test_val_images_without_masks_are_named_before_anything_starts(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    root = copy_dataset(tiny_dataset, tmp_path / "voc")
    (root / "SegmentationClass" / "2007_000010.png").unlink()
    refused = run_seg(root, tmp_path / "out", "--steps=train_seg")
    assert refused.status == 2
    assert "Mask of 2007_000010" in refused.stderr
    assert "--seg_val_every 0" in refused.stderr


@pytest.mark.slow
def test_torchvisions_and_caffes_files_are_starts_that_the_scores_name(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    squeezenet = tmp_path / "squeezenet.pth"
    torch.save(torchvision.models.squeezenet1_0(weights=None).state_dict(), squeezenet)
    rate = ("--seg_learning_rate=0", "--seg_iters=1", "--seg_accumulation=1")
    done = run_seg(tiny_dataset, tmp_path / "a", f"--seg_init={squeezenet}", *rate)
    assert done.status == 0, done.stderr
    started_from = "torchvision's network in squeezenet.pth"
    assert scores_of(done, "train_seg")["initialisation"] == started_from
    assert scores_of(done)["initialisation"] == started_from
    assert started_from in done.stdout
    kept = state_of(done)["backbone.features.12.expand3x3.weight"]
    assert torch.equal(
        kept, torch.load(squeezenet, weights_only=True)["features.12.expand3x3.weight"]
    )

    caffe = tmp_path / "coco.pth"
    drawn = caffe_state(91, prefix="base.")
    state = {k: v if k.endswith("running_var") else v / 1000 for k, v in drawn.items()}
    torch.save(state, caffe)
    flags = (*TRAIN_ONLY, "--seg_backbone=resnet50", f"--seg_init={caffe}", *rate)
    done = run_seg(tiny_dataset, tmp_path / "b", *flags)
    assert done.status == 0, done.stderr
    assert "starts from: Caffe's weights coco.pth, without its head" in done.stderr
    first_of_layer3 = "layer3.0.conv1.weight"
    assert torch.equal(
        state_of(done)[f"backbone.{first_of_layer3}"],
        state["base.layer4.block1.reduce.conv.weight"],
    )
    theirs = tmp_path / "irn.pth"
    small = {k: v / 1000 if v.is_floating_point() else v for k, v in irn_state().items()}
    torch.save(small, theirs)
    flags = (*TRAIN_ONLY, "--seg_backbone=resnet50", f"--seg_init={theirs}", *rate)
    done = run_seg(tiny_dataset, tmp_path / "c", *flags)
    assert done.status == 0, done.stderr
    assert "starts from: the classifier irn.pth" in done.stderr


def test_a_start_that_does_not_fit_is_refused_before_anything_is_trained(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    theirs, broken, gone = irn_state(), tmp_path / "broken.pth", tmp_path / "gone.pth"
    del theirs["resnet50.layer3.0.conv1.weight"], theirs["stage3.0.0.conv1.weight"]
    del theirs["backbone.2.0.0.conv1.weight"]
    torch.save(theirs, broken)
    cases = {
        f"--seg_init {broken}: The weights in {broken}": "missing: backbone.layer3.0.conv1.weight",
        f"--seg_init {gone}: there is no file": "Pass a file, imagenet, none, or cam",
    }
    for init, (beginning, named) in zip((broken, gone), cases.items(), strict=True):
        flags = ("--steps=train_cam,train_seg", "--seg_backbone=resnet50", f"--seg_init={init}")
        refused = run_seg(tiny_dataset, tmp_path / "out", *flags)
        assert refused.status == 2
        assert beginning in refused.stderr
        assert named in refused.stderr
        assert not (tmp_path / "out" / "weights").exists()


def test_the_classifiers_backbone_is_a_start_of_the_same_network_alone(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    before = states(out_dir)
    both = "--steps=train_cam,train_seg"
    for folder, *flags in (
        (tmp_path / "new", both),
        (out_dir, both),
        (out_dir, both, "--overwrite"),
        (out_dir, "--steps=train_seg"),
    ):
        refused = run_seg(tiny_dataset, folder, "--seg_init=cam", *flags)
        assert refused.status == 2
        assert "whose --backbone is resnet18, but --seg_backbone is squeezenet1_0" in refused.stderr
    assert states(out_dir) == before
    assert not (tmp_path / "new" / "weights").exists()
    flags = ["--seg_init=cam", "--seg_backbone=resnet18", "--backbone=resnet50"]
    done = run_seg(tiny_dataset, out_dir, *TRAIN_ONLY, *flags, "--seg_iters=1")
    assert done.status == 0, done.stderr
    assert "starts from: the classifier cam.pth" in done.stderr


@pytest.mark.slow
def test_two_processes_train_segment_and_score_as_one(
    tiny_dataset: Path, segmented: Run, tmp_path: Path
) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    flags = [*SEG_FLAGS, ONE_SEED, "--steps=train_seg,make_seg,eval_seg"]
    process = start([*launcher, "run_sample.py", *arguments(tiny_dataset, tmp_path, *flags)])
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    both = Run(0, tmp_path, "", stderr)
    one = state_of(segmented, "seg_seed0.pth")
    for name, value in state_of(both, "seg_seed0.pth").items():
        np.testing.assert_allclose(value, one[name], rtol=1e-3, atol=5e-4, err_msg=name)
    found = notes_of(both, "seg_seed0.pth")["validation"]
    expected = notes_of(segmented, "seg_seed0.pth")["validation"]
    for here, there in zip(found, expected, strict=True):
        assert here["miou"] == pytest.approx(there["miou"], abs=0.01)
    last = scores_of(both)["last"]["miou"]["mean"]
    assert last == pytest.approx(found[-1]["miou"])


@pytest.mark.slow
def test_bf16_trains_close_to_fp32(tiny_dataset: Path, segmented: Run, tmp_path: Path) -> None:
    # In a process of its own: accelerate allows one precision a process.
    flags = [*SEG_FLAGS, *TRAIN_ONLY, ONE_SEED, "--precision=bf16"]
    process = start(["run_sample.py", *arguments(tiny_dataset, tmp_path, *flags)])
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    done = Run(0, tmp_path, "", stderr)
    exact = state_of(segmented, "seg_seed0.pth")
    for name, value in state_of(done, "seg_seed0.pth").items():
        assert value.dtype == exact[name].dtype
        np.testing.assert_allclose(value, exact[name], atol=0.05, err_msg=name)


def test_rates_of_1_10_and_20_and_decay_for_all_but_the_heads_biases() -> None:
    network = DeepLabV2(build_backbone("resnet18", fixed_batch_norm=True), 3)
    backbone, weights, biases = make_optimizer(network, 0.5, 0.25, 0.9, 100).param_groups
    assert [group["lr"] for group in (backbone, weights, biases)] == [0.5, 5.0, 10.0]
    assert [group["weight_decay"] for group in (backbone, weights, biases)] == [0.25, 0.25, 0.0]
    assert [group["momentum"] for group in (backbone, weights, biases)] == [0.9] * 3
    shapes = [tuple(p.shape) for p in weights["params"]]
    assert shapes == [(3, 512, 3, 3)] * 4
    assert [tuple(p.shape) for p in biases["params"]] == [(3,)] * 4
    assert all(p.ndim == 4 for p in backbone["params"])


def test_the_rate_falls_every_ten_updates() -> None:
    network = DeepLabV2(build_backbone("squeezenet1_0", fixed_batch_norm=True), 2)
    optimizer = make_optimizer(network, 1.0, 0.0, 0.9, 40)
    rates = []
    for _ in range(40):
        optimizer.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    stairs = [(1 - t / 40) ** 0.9 for t in (0, 10, 20, 30) for _ in range(10)]
    for factor, group in zip((1, 10, 20), zip(*rates, strict=True), strict=True):
        assert list(group) == pytest.approx([factor * stair for stair in stairs])


def test_the_defaults_are_the_protocols() -> None:
    config: Any = full_config_class()()
    assert config.seg_backbone == "resnet101"
    assert config.seg_init == "imagenet"
    assert config.seg_label_dir == "auto"
    assert (config.seg_iters, config.seg_batch_size, config.seg_accumulation) == (20_000, 5, 2)
    assert (config.seg_crop, config.seg_rescale) == (321, (0.5, 0.75, 1.0, 1.25, 1.5))
    assert config.seg_pyramid == config.seg_test_scales == (1.0, 0.75, 0.5)
    assert (config.seg_learning_rate, config.seg_weight_decay) == (2.5e-4, 5e-4)
    assert (config.seg_momentum, config.seg_balanced) == (0.9, False)
    assert (config.seg_test_flip, config.seg_crf, config.make_seg_split) == (False, True, "val")


def test_of_equal_scores_the_earliest_weights_are_the_best(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--steps=train_seg", *SEG_FLAGS)
    it = about_to_train(monkeypatch, tiny_dataset, tmp_path / "out", *flags)
    scores = iter([0.5, 0.7, 0.7, 0.6])
    monkeypatch.setattr("step.train_seg.val_miou", lambda *_args, **_options: next(scores))
    bias = it.network.get_parameter("aspp.c0.bias")
    assert it.after_update is not None
    for updates in (2, 4, 6, 8):
        bias.data.fill_(updates)
        it.after_update(updates)
    folder = tmp_path / "out" / "weights" / "seg.pth.new"
    best = torch.load(folder / "seg_best.pth", weights_only=True)
    assert best["aspp.c0.bias"].eq(4).all()
    notes = json.loads((folder / "seg.pth.notes.json").read_text())
    assert notes["best"] == {"updates": 4, "miou": 0.7}
    assert [each["updates"] for each in notes["validation"]] == [2, 4, 6, 8]
    assert notes["updates"] == 8
