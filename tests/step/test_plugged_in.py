"""Every dialect of CAMs, and checkpoints of IRN, BES and SBE, through the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from misc.cam_files.convert import main as convert
from misc.images import read_mask
from misc.untrusted import safe_load as read_record
from net.backbone import build_backbone
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier
from tests.helpers.cam_writers import WRITERS
from tests.helpers.paths import GOLDEN
from tests.helpers.sets import all_ids
from tests.helpers.tiny import Run, run

ROUNDED = {"clip_es": 0.005, "drs": 0.05, "oaa_png": 0.02, "cti": 0.05, "fma": 0.05}
NEEDS_FLAG = {
    # A key 0 may be background or the first class, which no image here shows.
    "psa_crf": "--cam_format psa or --cam_format psa_crf",
    "cti": "--cam_format cti",
}


@pytest.fixture(scope="module")
def dialects(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same CAMs of all images in a folder for each dialect."""
    root, rng = tmp_path_factory.mktemp("dialects"), np.random.default_rng(4)
    for cam_format in WRITERS:
        (root / cam_format).mkdir()
    for image_id in all_ids(tiny_dataset):
        mask = read_mask(tiny_dataset / "SegmentationClass" / f"{image_id}.png")
        classes = [int(c) - 1 for c in np.unique(mask) if 0 < c < 255]
        maps = np.stack([
            ndimage.gaussian_filter((mask == c + 1) + 0.5 * rng.random(mask.shape), 3)
            for c in classes
        ]).astype(np.float32)  # fmt: skip
        maps /= maps.max(axis=(1, 2), keepdims=True)
        for cam_format, write in WRITERS.items():
            write(root / cam_format, image_id, classes, maps)
    return root


def scores_of(done: Run, step: str) -> dict[str, Any]:
    assert done.status == 0, done.stderr
    return json.loads((done.out_dir / "scores.json").read_text())[step]


@pytest.fixture(scope="module")
def of_irn(
    tiny_dataset: Path, dialects: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    out_dir = tmp_path_factory.mktemp("irn")
    done = run(tiny_dataset, out_dir, "--steps=eval_cam", f"--cam_out_dir={dialects / 'irn'}")
    return scores_of(done, "eval_cam")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("cam_format", WRITERS)
def test_every_dialect_scores_as_one(
    tiny_dataset: Path,
    dialects: Path,
    of_irn: dict[str, Any],
    tmp_path: Path,
    cam_format: str,
    named: bool,
) -> None:
    flags = ["--steps=eval_cam", f"--cam_out_dir={dialects / cam_format}"]
    if named:
        flags.append(f"--cam_format={cam_format}")
    done = run(tiny_dataset, tmp_path, *flags)
    if cam_format in NEEDS_FLAG and not named:
        assert done.status == 2
        assert NEEDS_FLAG[cam_format] in done.stderr
        return
    scores = scores_of(done, "eval_cam")
    tolerance = ROUNDED.get(cam_format, 0)
    assert scores["miou"] == pytest.approx(of_irn["miou"], abs=tolerance, rel=0)
    assert scores["best"]["miou"] == pytest.approx(of_irn["best"]["miou"], abs=tolerance, rel=0)


def test_the_wrong_dialect_is_refused_with_the_path(
    tiny_dataset: Path, dialects: Path, tmp_path: Path
) -> None:
    folder = dialects / "toco"
    flags = (f"--cam_out_dir={folder}", "--cam_format=sipe")
    done = run(tiny_dataset, tmp_path, "--steps=eval_cam", *flags)
    assert done.status == 2
    assert str(folder) in done.stderr


def test_a_folder_of_masks_is_not_taken_for_one_to_write_cams_into(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(finished_run.out_dir / "sem_seg", masks)
    done = run(tiny_dataset, tmp_path / "out", f"--cam_out_dir={masks}", "--plan")
    assert f"--cam_out_dir {masks} holds files (2007_000001.png), but none is a CAM" in done.stdout
    refused = run(tiny_dataset, tmp_path / "out", f"--cam_out_dir={masks}")
    assert refused.status == 2
    assert not list(masks.glob("*.npy"))
    elsewhere = run(tiny_dataset, tmp_path / "out", f"--cam_out_dir={tmp_path / 'new'}", "--plan")
    assert "problem" not in elsewhere.stdout


ALL_STEPS = "--steps=make_boundary_label,train_bes,make_walk,eval_walk,make_sem_seg,eval_sem_seg"


def run_all_steps(root: Path, dialects: Path, out_dir: Path, cam_format: str) -> Run:
    flags = (f"--cam_out_dir={dialects / cam_format}", f"--cam_format={cam_format}")
    return run(root, out_dir, ALL_STEPS, *flags, "--bes_backbone=pretrained")


@pytest.fixture(scope="module")
def of_toco(tiny_dataset: Path, dialects: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    done = run_all_steps(tiny_dataset, dialects, tmp_path_factory.mktemp("of_toco"), "toco")
    assert done.status == 0, done.stderr
    return done


def test_all_steps_take_them(
    tiny_dataset: Path, dialects: Path, of_toco: Run, tmp_path: Path
) -> None:
    """Two dialects of the same full-size maps: labels, network and masks are the same bytes."""
    done = run_all_steps(tiny_dataset, dialects, tmp_path, "psa")
    assert done.status == 0, done.stderr
    for name in ("cam_vis", "boundary_label", "sem_seg"):
        paths = sorted((of_toco.out_dir / name).glob("*.png"))
        assert len(paths) >= 8
        for path in paths:
            assert path.read_bytes() == (tmp_path / name / path.name).read_bytes()


# How many pixels of a mask may differ, where maps are on a grid of their own or rounded.
NEWER = {"pot": 0, "more": 0, "excel": 0, "sfc": 0.001, "cti": 0.05, "fma": 0.05}


@pytest.mark.parametrize("cam_format", NEWER)
def test_newer_dialects_become_the_same_masks(
    tiny_dataset: Path, dialects: Path, of_toco: Run, tmp_path: Path, cam_format: str
) -> None:
    shutil.copy(of_toco.out_dir / "weights" / "bes.pth", tmp_path / "bes.pth")
    flags = [f"--cam_out_dir={dialects / cam_format}", f"--bes_weights_name={tmp_path / 'bes.pth'}"]
    if cam_format in NEEDS_FLAG:
        flags.append(f"--cam_format={cam_format}")
    steps = "--steps=make_walk,make_sem_seg"
    done = run(tiny_dataset, tmp_path / "out", steps, "--infer_list=train", *flags)
    assert done.status == 0, done.stderr
    paths = sorted((tmp_path / "out" / "sem_seg").glob("*.png"))
    assert len(paths) == 16
    paired = [
        (read_mask(path), read_mask(of_toco.out_dir / "sem_seg" / path.name)) for path in paths
    ]
    different = sum(int((mask != same).sum()) for mask, same in paired)
    assert different <= NEWER[cam_format] * sum(mask.size for mask, _ in paired)
    assert any((mask > 0).any() for mask, _ in paired)


@pytest.fixture
def empty_ids(tiny_dataset: Path) -> list[str]:
    """Images that show no class in `partly_empty`: of the first list and of the second."""
    ids = all_ids(tiny_dataset)
    return [ids[1], ids[-1]]


@pytest.fixture
def partly_empty(dialects: Path, empty_ids: list[str], tmp_path: Path) -> Path:
    """CAMs as PNGs, none for images without classes."""
    folder = tmp_path / "pngs"
    shutil.copytree(dialects / "oaa_png", folder)
    for image_id in empty_ids:
        for path in folder.glob(f"{image_id}_*.png"):
            path.unlink()
    return folder


CAM_STEPS = "eval_cam,make_boundary_label,make_sem_seg"


def test_an_image_without_a_png_is_an_image_without_classes(
    tiny_dataset: Path, partly_empty: Path, empty_ids: list[str], tmp_path: Path
) -> None:
    """The same as CAMs in .npy files that name no class; the log says how many there are."""
    ids, two = tmp_path / "ids.txt", tmp_path / "two.txt"  # the labels' CRF takes its time
    ids.write_text("\n".join(all_ids(tiny_dataset)))
    two.write_text("\n".join(all_ids(tiny_dataset)[:2]))
    flags = ["--to", "irn", "--cam_format", "oaa_png", "--list", str(ids), "--num_workers", "0"]
    flags += ["--num_classes", "20", "--image_root", str(tiny_dataset / "JPEGImages")]
    irn = tmp_path / "irn"
    assert convert(["convert", str(partly_empty), str(irn), *flags]) == 0
    assert read_record(irn / f"{empty_ids[0]}.npy")["keys"].tolist() == []
    done = {}
    for name, folder, cam_format in (("a", partly_empty, "oaa_png"), ("b", irn, "irn")):
        flags = [f"--cam_out_dir={folder}", f"--cam_format={cam_format}", "--panels=2"]
        flags += [f"--train_aug_list={two}", f"--infer_list={two}"]
        flags += ["--sem_seg_scores=cam", "--sem_seg_rule=saliency"]
        done[name] = run(tiny_dataset, tmp_path / name, f"--steps={CAM_STEPS}", *flags)
        assert done[name].status == 0, done[name].stderr
    scores = [scores_of(each, "eval_cam") for each in done.values()]
    assert scores[0]["iou"] == scores[1]["iou"]
    assert scores[0]["best"] == scores[1]["best"]
    for made in ("cam_vis", "boundary_label", "sem_seg"):
        paths = sorted((tmp_path / "b" / made).glob("*.png"))
        assert f"{empty_ids[0]}.png" in {path.name for path in paths}
        for path in paths:
            assert path.read_bytes() == (tmp_path / "a" / made / path.name).read_bytes()
    told = [line for line in done["a"].stderr.splitlines() if "without classes" in line]
    assert len(told) == len(set(told))
    assert any(f"{partly_empty}: 1 of 8 images (first: {empty_ids[0]})" in line for line in told)
    assert "without classes" not in done["b"].stderr


def test_so_it_is_in_the_benchmark(tiny_dataset: Path, partly_empty: Path, tmp_path: Path) -> None:
    flags = ["--benchmark_act_thres=0.1,0.3", "--benchmark_sal_thres=0.5"]
    flags.append(f"--benchmark_cams=theirs={partly_empty}:oaa_png")
    done = run(tiny_dataset, tmp_path / "out", "--steps=benchmark", *flags)
    assert done.status == 0, done.stderr
    assert "1 of 8 images (first: " in done.stderr
    assert "treated as images without classes" in done.stderr


@pytest.mark.parametrize("steps", ["eval_cam", "make_cam,eval_cam"])
def test_a_format_that_was_not_named_takes_no_image_for_empty(
    tiny_dataset: Path, partly_empty: Path, empty_ids: list[str], tmp_path: Path, steps: str
) -> None:
    folder = f"--cam_out_dir={partly_empty}"
    done = run(tiny_dataset, tmp_path / "out", f"--steps={steps}", folder)
    assert done.status == 2
    assert any(image_id in done.stderr for image_id in empty_ids)
    assert "If these images show no class, pass --cam_format oaa_png." in done.stderr


def test_a_folder_of_other_images_is_not_one_of_empty_images(
    tiny_dataset: Path, dialects: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    for path in (dialects / "oaa_png").iterdir():
        shutil.copy(path, folder / f"other_{path.name}")
    flags = [f"--cam_out_dir={folder}", "--cam_format=oaa_png"]
    done = run(tiny_dataset, tmp_path / "out", "--steps=eval_cam", *flags)
    assert done.status == 2
    assert f"{folder} lacks the CAMs of" in done.stderr


def legacy_state(network: nn.Module, which: str) -> dict[str, torch.Tensor]:
    """The weights of `network` under all the names of a checkpoint of the reference."""
    record = json.loads((GOLDEN / f"g3_{which}_state_dict.json").read_text())
    own = {k.replace("backbone.", "resnet50.", 1): v for k, v in network.state_dict().items()}
    state = {}
    for key, shape, _ in record["keys"]:
        name = record["alias_of"].get(key, key)
        # The record lists no alias of a tensor with one element.
        name = "fc_edge6.bias" if key == "edge_layers.5.bias" else name
        state[key] = own[name] if name in own else torch.zeros(shape)
    return state


def network_of(which: str) -> nn.Module:
    torch.manual_seed(0)
    backbone = build_backbone("resnet50", fixed_batch_norm=True)
    return CamClassifier(backbone, 20) if which == "cam" else BoundaryNetwork(backbone)


WHICH = {
    "cam": ("cam_weights_name", "make_cam", "cam", "*.npy"),
    "boundary": ("bes_weights_name", "make_walk", "walk", "*.npy"),
}


@pytest.mark.parametrize("which", WHICH)
def test_legacy_checkpoints_do_what_the_same_weights_of_ours_do(
    tiny_dataset: Path, dialects: Path, tmp_path: Path, which: str
) -> None:
    flag, step, folder, pattern = WHICH[which]
    network = network_of(which)
    state = legacy_state(network, which)
    spoiled = dict(state)
    alias = next(key for key in state if key.startswith("stage2.") and key.endswith("conv1.weight"))
    spoiled[alias] = state[alias] + 1
    files = {"ours": network.state_dict(), "legacy": state, "spoiled": spoiled}
    flags = ["--backbone=resnet50", "--cam_scales=1", f"--steps={step}"]
    if which == "boundary":
        flags += [f"--cam_out_dir={dialects / 'irn'}", "--cam_format=irn", "--infer_list=val"]
    done = {}
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
        done[name] = run(tiny_dataset, tmp_path / name, *flags, f"--{flag}={tmp_path / name}.pth")
    assert done["ours"].status == done["legacy"].status == 0, done["legacy"].stderr
    made = sorted((tmp_path / "ours" / folder).glob(pattern))
    assert len(made) >= 3
    for path in made:
        assert path.read_bytes() == (tmp_path / "legacy" / folder / path.name).read_bytes()
    assert done["spoiled"].status == 2
    assert str(tmp_path / "spoiled.pth") in done["spoiled"].stderr
    assert not list((tmp_path / "spoiled").glob(f"{folder}/{pattern}"))
