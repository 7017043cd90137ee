import re
from pathlib import Path

import numpy as np
import pytest

from misc.cam_files import read_cams
from misc.images import read_mask
from misc.pseudo_mask import regions_above, scores_to_regions
from tests.helpers.tiny import Run, copy_run, run, scores_of

IDS = [f"2007_{number:06d}" for number in range(1, 9)]


@pytest.mark.parametrize("threshold", [0.21, 0.5])
@pytest.mark.parametrize("scores", ["walk", "cam"])
def test_masks_are_the_strongest_classes_above_the_threshold(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, scores: str, threshold: float
) -> None:
    """And the scores of all thresholds, before the CRF, are those of these masks."""
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    masks = tmp_path / "masks"
    flags = [f"--sem_seg_scores={scores}", f"--sem_seg_bg_thres={threshold}"]
    flags += [f"--cam_eval_thres={threshold}", f"--sem_seg_out_dir={masks}"]
    steps = f"--steps=eval_{scores},make_sem_seg,eval_sem_seg"
    done = run(tiny_dataset, out_dir, steps, *flags)
    assert done.status == 0, done.stderr
    seen = set()
    for image_id in IDS:
        mask = read_mask(masks / f"{image_id}.png")
        cams = read_cams(out_dir / scores / f"{image_id}.npy", mask.shape, num_classes=20)
        if scores == "walk":
            regions = scores_to_regions(cams.cam, mask.shape, threshold)
        else:
            regions = regions_above(cams.high_res, threshold)
        np.testing.assert_array_equal(np.concatenate([[0], cams.class_ids])[regions], mask)
        seen |= set(np.unique(mask).tolist())
    assert len(seen) > 2
    found = scores_of(out_dir)
    assert found["eval_sem_seg"]["miou"] == found[f"eval_{scores}"]["miou"]
    assert found["eval_sem_seg"]["iou"] == found[f"eval_{scores}"]["iou"]
    curve = found[f"eval_{scores}"]["curve"]
    assert curve["threshold"] == sorted(curve["threshold"])
    assert curve["miou"][curve["threshold"].index(threshold)] == found["eval_sem_seg"]["miou"]
    assert max(curve["miou"]) == found[f"eval_{scores}"]["best"]["miou"]


def test_a_new_threshold_costs_neither_a_network_nor_a_walk(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("misc.random_walk.random_walk_many", "step.common.predict.with_boundaries"):
        monkeypatch.setattr(name, None)
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    done = run(tiny_dataset, out_dir, "--sem_seg_bg_thres=0.4", "--overwrite")
    assert done.status == 0, done.stderr
    assert re.search("^make_walk +kept", done.stdout, re.MULTILINE)
    assert re.search("^make_sem_seg +done", done.stdout, re.MULTILINE)


def test_masks_of_cams_ask_for_no_boundary_network(tiny_dataset: Path, tmp_path: Path) -> None:
    planned = run(tiny_dataset, tmp_path / "out", "--sem_seg_scores=cam", "--plan")
    assert planned.status == 0
    asked = [line.split()[0] for line in planned.stdout.partition("\n\n")[0].splitlines()[2:]]
    assert asked == ["train_cam", "make_cam", "eval_cam", "make_sem_seg", "eval_sem_seg"]


@pytest.mark.slow
def test_the_order_of_work_on_a_gpu_gives_the_same_files(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaders read ahead, this process does walks in groups and the CRFs, workers write."""
    for module in ("misc.runtime.device", "step.common.crf_work", "step.make_walk"):
        monkeypatch.setattr(f"{module}.is_accelerator", lambda _device: True)
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    folders = {
        "cam_vis": "cam_vis_dir", "boundary_label": "boundary_label_dir", "walk": "walk_out_dir",
        "sem_seg": "sem_seg_out_dir",
    }  # fmt: skip
    flags = [f"--{flag}={tmp_path / name}" for name, flag in folders.items()]
    steps = "--steps=make_boundary_label,make_walk,make_sem_seg"
    assert run(tiny_dataset, out_dir, steps, "--num_workers=2", *flags).status == 0
    for name in folders:
        made = sorted((tmp_path / name).glob("*.[np][pn][yg]"))
        assert [path.name for path in made] == sorted(
            p.name for p in (out_dir / name).glob("*.[np][pn][yg]")
        )
        assert made
        for path in made:
            assert path.read_bytes() == (out_dir / name / path.name).read_bytes(), path


def test_masks_of_two_crfs_are_not_mixed(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    pytest.importorskip("pydensecrf")
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    stopped = run(tiny_dataset, out_dir, "--steps=make_sem_seg", "--crf=pydensecrf")
    assert stopped.status == 2
    assert "--crf was torch, is pydensecrf" in stopped.stderr
    same = run(tiny_dataset, out_dir, "--steps=make_boundary_label,make_sem_seg", "--crf=torch")
    assert same.status == 0, same.stderr
    assert re.search("^make_sem_seg +current", same.stderr, re.MULTILINE)
    assert "Nothing to do." in same.stderr
