from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from misc.cam_files import read_cams
from tests.helpers.tiny import Run, copy_run, run

IDS = [f"2007_{number:06d}" for number in range(1, 9)]


def walked(folder: Path, image_id: str, size: tuple[int, int]) -> np.ndarray:
    return read_cams(folder / f"{image_id}.npy", size, num_classes=20, parts=["cam"]).cam


def size_of(root: Path, image_id: str) -> tuple[int, int]:
    with Image.open(root / "JPEGImages" / f"{image_id}.jpg") as picture:
        return picture.height, picture.width


def test_walked_scores_are_cam_files_of_stride_4(tiny_dataset: Path, finished_run: Run) -> None:
    """Weighted averages of the CAM: within its range, of its classes, and not the CAM."""
    out_dir = finished_run.out_dir
    assert sorted(path.name for path in (out_dir / "walk").glob("*.npy")) == [
        f"{image_id}.npy" for image_id in IDS
    ]
    for image_id in IDS:
        size = size_of(tiny_dataset, image_id)
        cams = read_cams(out_dir / "cam" / f"{image_id}.npy", size, num_classes=20)
        walks = read_cams(out_dir / "walk" / f"{image_id}.npy", size, num_classes=20)
        np.testing.assert_array_equal(walks.class_ids, cams.class_ids)
        assert walks.cam.shape == cams.cam.shape
        assert walks.high_res.shape == cams.high_res.shape
        for walk, cam in zip(walks.cam, cams.cam, strict=True):
            assert 0 <= walk.min() <= walk.max() <= cam.max()
            assert walk.std() <= cam.std()
        assert walks.cam.std() < cams.cam.std() or not cams.cam.any()


def test_the_exact_walk_is_the_fast_one(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = ("--steps=make_walk", f"--walk_out_dir={tmp_path / 'walk'}")
    # The fast way is not there, so it was not gone.
    monkeypatch.setattr("misc.random_walk.chebyshev_coefficients", None)
    assert run(tiny_dataset, out_dir, *flags, "--walk=exact").status == 0
    differ = []
    for image_id in IDS:
        size = size_of(tiny_dataset, image_id)
        fast, exact = (walked(f / "walk", image_id, size) for f in (out_dir, tmp_path))
        np.testing.assert_allclose(fast, exact, atol=1e-6)
        differ.append(not np.array_equal(fast, exact))
    assert any(differ)  # it was another way to the same scores


@pytest.mark.parametrize(("flag", "evens_out"), [("--beta=1", True), ("--exp_times=0", False)])
def test_how_far_it_goes_is_a_setting(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, flag: str, evens_out: bool
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    refused = run(tiny_dataset, out_dir, "--steps=make_walk", flag)
    assert refused.status == 2
    assert f"make_walk: {flag.split('=')[0]} was" in refused.stderr
    flags = ("--steps=make_walk", f"--walk_out_dir={tmp_path / 'walk'}")
    assert run(tiny_dataset, out_dir, *flags, flag).status == 0
    size = size_of(tiny_dataset, IDS[0])
    changed, usual = (walked(folder / "walk", IDS[0], size) for folder in (tmp_path, out_dir))
    assert (changed.std() < usual.std()) == evens_out


def test_smaller_files(tiny_dataset: Path, finished_run: Run, tmp_path: Path) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = ("--steps=make_walk", f"--walk_out_dir={tmp_path / 'walk'}", "--cam_dtype=float16")
    # The CAMs that are there are float32, and are taken as they are.
    assert run(tiny_dataset, out_dir, *flags).status == 0
    paths = [folder / "walk" / f"{IDS[0]}.npy" for folder in (out_dir, tmp_path)]
    whole, half = (path.stat().st_size for path in paths)
    assert half < 0.7 * whole
    size = size_of(tiny_dataset, IDS[0])
    float32, float16 = (walked(path.parent, IDS[0], size) for path in paths)
    np.testing.assert_allclose(float16, float32, atol=1e-3)
    assert not np.array_equal(float16, float32)


def test_cams_are_read_beside_the_network(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the loader's workers, which this patch does not reach; here they would delay forwards.

    Some are looked at here as well: their size tells how many may be read ahead.
    """
    read_here = []

    def noted(path: Path, *arguments: Any, **settings: Any) -> Any:
        read_here.append(path.stem)
        return read_cams(path, *arguments, **settings)

    monkeypatch.setattr("step.common.results.read_cams", noted)
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = ("--steps=make_walk", "--num_workers=1", f"--walk_out_dir={tmp_path / 'walk'}")
    assert run(tiny_dataset, out_dir, *flags).status == 0
    assert read_here == IDS[::2]
    for image_id in IDS:
        made, before = (f / "walk" / f"{image_id}.npy" for f in (tmp_path, out_dir))
        assert made.read_bytes() == before.read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, value: float
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    (saved,) = (out_dir / "weights").glob("*bes*.pth")
    weights = torch.load(saved, weights_only=True)
    weights["fc_edge6.bias"].fill_(value)
    weights["fc_edge5.0.weight"].fill_(value)
    spoiled, walks = tmp_path / "spoiled.pth", tmp_path / "walk"
    torch.save(weights, spoiled)
    flags = (f"--bes_weights_name={spoiled}", f"--walk_out_dir={walks}")
    stopped = run(tiny_dataset, out_dir, "--steps=make_walk", *flags)
    assert stopped.status == 2
    for named in (str(spoiled), "NaN or infinite", "fc_edge6.bias", "--bes_weights_name"):
        assert named in stopped.stderr
    assert not list(walks.glob("*.npy"))


def test_scores_that_somebody_else_walked_are_taken(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    """Neither CAMs nor a network are needed for their masks."""
    walks = tmp_path / "walk"
    walks.mkdir()
    for image_id in IDS:
        (walks / f"{image_id}.npy").hardlink_to(finished_run.out_dir / "walk" / f"{image_id}.npy")
    done = run(
        tiny_dataset, tmp_path / "out", "--steps=make_sem_seg,eval_sem_seg",
        f"--walk_out_dir={walks}",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    for path in (finished_run.out_dir / "sem_seg").glob("*.png"):
        assert (tmp_path / "out" / "sem_seg" / path.name).read_bytes() == path.read_bytes()
    (walks / f"{IDS[3]}.npy").unlink()
    (walks / f"{IDS[3]}.npy").write_bytes(b"no scores")
    refused = run(tiny_dataset, tmp_path / "new", "--steps=make_sem_seg", f"--walk_out_dir={walks}")
    assert refused.status == 2
    assert str(walks / f"{IDS[3]}.npy") in refused.stderr
