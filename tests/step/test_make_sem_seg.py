import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.tiny import Run, copy_run, run, watch_crfs_here

MOST_DIFFERING = 1e-4  # of all pixels


def test_masks_of_the_exact_walk_are_those_of_the_fast_one(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    exact = tmp_path / "exact"
    flags = ("--steps=make_sem_seg", "--walk=exact", f"--sem_seg_out_dir={exact}")
    assert run(tiny_dataset, out_dir, *flags).status == 0
    names = sorted(path.name for path in (out_dir / "sem_seg").glob("*.png"))
    assert len(names) == 16
    differing, total, kinds = 0, 0, set()
    for name in names:
        fast = np.asarray(Image.open(out_dir / "sem_seg" / name))
        slow = np.asarray(Image.open(exact / name))
        differing += int((fast != slow).sum())
        total += fast.size
        kinds |= set(np.unique(fast).tolist())
    assert len(kinds) > 1
    assert differing <= MOST_DIFFERING * total


@pytest.mark.slow
def test_the_order_of_work_on_a_gpu_gives_the_same_files(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaders read ahead, this process does walks in groups and the CRFs, workers write."""
    for module in ("misc.runtime.device", "step.make_confident_regions", "step.make_sem_seg"):
        monkeypatch.setattr(f"{module}.is_accelerator", lambda _device: True)
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    folders = {
        "cam_vis": "cam_vis_dir", "boundary_label": "boundary_label_dir",
        "sem_seg": "sem_seg_out_dir",
    }  # fmt: skip
    flags = [f"--{flag}={tmp_path / name}" for name, flag in folders.items()]
    steps = "--steps=make_boundary_label,make_sem_seg"
    assert run(tiny_dataset, out_dir, steps, "--num_workers=2", *flags).status == 0
    for name in folders:
        made = sorted((tmp_path / name).glob("*.png"))
        assert [path.name for path in made] == sorted(
            p.name for p in (out_dir / name).glob("*.png")
        )
        assert made
        for path in made:
            assert path.read_bytes() == (out_dir / name / path.name).read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize(("free_cores", "crfs_here"), [(0, 8), (1, 0)])
def test_crfs_are_done_beside_the_network_where_it_leaves_a_core(
    tiny_dataset: Path,
    finished_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_cores: int,
    crfs_here: int,
) -> None:
    crf = watch_crfs_here(monkeypatch, free_cores)
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = ("--steps=make_sem_seg", "--num_workers=1", f"--sem_seg_out_dir={tmp_path / 'masks'}")
    assert run(tiny_dataset, out_dir, *flags).status == 0
    assert crf.call_count == crfs_here
    made = sorted((tmp_path / "masks").glob("*.png"))
    assert len(made) == 16
    for path in made:
        assert path.read_bytes() == (out_dir / "sem_seg" / path.name).read_bytes(), path


def test_cams_are_read_beside_the_network(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the loader's workers, which this patch does not reach; here they would delay forwards."""

    def refuse(*_arguments: object, **_settings: object) -> None:
        raise AssertionError("CAMs are read in the process of the network")

    monkeypatch.setattr("step.common.results.read_cams", refuse)
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = ("--steps=make_sem_seg", "--num_workers=1", f"--sem_seg_out_dir={tmp_path / 'masks'}")
    assert run(tiny_dataset, out_dir, *flags).status == 0
    made = sorted((tmp_path / "masks").glob("*.png"))
    assert len(made) == 16
    for path in made:
        assert path.read_bytes() == (out_dir / "sem_seg" / path.name).read_bytes(), path


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named_instead_of_masks_without_an_object(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, value: float
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    (saved,) = (out_dir / "weights").glob("*bes*.pth")
    weights = torch.load(saved, weights_only=True)
    weights["fc_edge6.bias"].fill_(value)
    weights["fc_edge5.0.weight"].fill_(value)
    spoiled, masks = tmp_path / "spoiled.pth", tmp_path / "masks"
    torch.save(weights, spoiled)
    flags = (f"--bes_weights_name={spoiled}", f"--sem_seg_out_dir={masks}")
    stopped = run(tiny_dataset, out_dir, "--steps=make_sem_seg", *flags)
    assert stopped.status == 2
    for named in ("2007_0000", str(spoiled), "not finite", "--bes_weights_name", "bf16 or fp32"):
        assert named in stopped.stderr
    assert not list(masks.glob("*.png"))


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
