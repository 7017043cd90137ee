"""What a step will write is said before, and refused where it cannot fit."""

import contextlib
import io
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from misc.cam_files import read_cams
from misc.config import BACKBONES
from misc.weights import write_torch_file
from net.backbone import build_backbone
from step.artefacts import BOUNDARY_LABELS, CAMS, PSEUDO_MASKS
from step.common.disk import BACKBONE_BYTES, SPARE_BYTES, DiskUse, in_words, space_problems, use_of
from step.graph import Node
from tests.helpers.paths import ROOT
from tests.helpers.segmentation import SEG_FLAGS
from tests.helpers.tiny import Run, arguments, copy_run, run, states

IDS = [f"2007_{number:06d}" for number in range(1, 9)]


def folder_bytes(folder: Path, ending: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"*{ending}"))


def test_each_step_says_what_it_will_write_before_it_does(finished_run: Run) -> None:
    log = (finished_run.out_dir / "sample_train_eval.log").read_text()
    for step, what in (
        ("make_cam", "CAMs"), ("make_confident_regions", "confident regions"),
        ("make_boundary_label", "boundary labels"), ("make_walk", "walked scores"),
        ("make_sem_seg", "pseudo masks"),
    ):  # fmt: skip
        said = log.index(f"{step}: the {what} of 8 images will take about 0.")
        assert said < log.index(f"] {step}: ")


@pytest.mark.slow
def test_what_is_said_of_cams_is_what_they_take(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[DiskUse] = []

    def note(node: Node, todo: Sequence[str]) -> None:
        said.extend(filter(None, [use_of(node, todo)]))

    monkeypatch.setattr("step.common.runner.announce_use", note)
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    for flags in (["--cam_dtype=float16"], ["--cam_high_res=no"], []):
        said.clear()
        done = run(tiny_dataset, out_dir, "--steps=make_cam", "--overwrite", "all", *flags)
        assert done.status == 0, done.stderr
        assert len(said) == 1
        assert said[0].num_images == 8
        assert said[0].num_bytes == pytest.approx(folder_bytes(out_dir / "cam", ".npy"), rel=0.05)


def test_nothing_is_said_of_what_is_there(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    again = run(tiny_dataset, copy_run(finished_run.out_dir, tmp_path / "out"))
    assert again.status == 0
    assert "will take about" not in again.stderr


def test_the_first_step_that_does_not_fit_is_named_once_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SPARE_BYTES + 10**9
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    uses = [
        DiskUse(what, tmp_path / "not" / "there" / what.flag, 7, num_bytes)
        for what, num_bytes in ((CAMS, 6 * 10**8), (PSEUDO_MASKS, 5 * 10**8), (BOUNDARY_LABELS, 1))
    ]
    assert space_problems(uses[:1]) == []
    (problem,) = space_problems(uses)
    assert f"{uses[1].folder}: the pseudo masks of 7 images need 0.5 GB (1.4 GB with" in problem
    remedy = "Free some space or choose another --sem_seg_out_dir."
    assert f"but {tmp_path} has 1.3 GB free. {remedy}" in problem


def test_cams_that_do_not_fit_are_offered_smaller_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))
    (problem,) = space_problems([DiskUse(CAMS, tmp_path, 82_081, 10**11)])
    assert "need 100.0 GB" in problem
    assert "--cam_dtype float16 and --cam_high_res no make them smaller" in problem


def other_disk(monkeypatch: pytest.MonkeyPatch, folder: Path, free: int) -> None:
    """`folder` seems to be a disk of its own, with so much room; all others have plenty."""
    stat = Path.stat

    def fake(path: Path, **options: bool) -> object:
        found = stat(path, **options)
        if not path.is_relative_to(folder):
            return found
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**{**fields, "st_dev": 987_654})

    monkeypatch.setattr(Path, "stat", fake)
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: SimpleNamespace(free=free if path.is_relative_to(folder) else 10**12),
    )


@pytest.mark.parametrize(
    ("flag", "steps", "flags"),
    [
        ("cam_weights_name", "train_cam", []),
        ("bes_weights_name", "train_bes", ["--bes_backbone=pretrained"]),
        ("seg_weights_name", "train_seg", [*SEG_FLAGS, "--seg_backbone=resnet18"]),
    ],
)
def test_the_disk_of_the_weights_is_looked_at_too(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    flag: str, steps: str, flags: list[str],
) -> None:  # fmt: skip
    (tmp_path / "disk").mkdir()
    other_disk(monkeypatch, tmp_path / "disk", 10**8)
    labels = f"--boundary_label_dir={finished_run.out_dir / 'boundary_label'}"
    place = f"--{flag}={tmp_path / 'disk' / 'w.pth'}"
    refused = run(tiny_dataset, tmp_path / "out", f"--steps={steps}", labels, place, *flags)
    assert refused.status == 2
    assert "weights and the state of their training need 0.3 GB" in refused.stderr
    assert f"but {tmp_path / 'disk'} has 0.1 GB free" in refused.stderr
    assert f"choose another --{flag}." in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_reckoned_for_a_backbone_is_what_it_takes(name: str) -> None:
    with torch.device("meta"):
        network = build_backbone(name, fixed_batch_norm=True)
    taken = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    assert taken == pytest.approx(BACKBONE_BYTES[name], rel=0.05)


def with_limit(num_bytes: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    """A run whose files may have so many bytes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))

    return subprocess.run(
        [sys.executable, "run_sample.py", *command],
        cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=limit,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("num_bytes", "steps", "told"),
    [
        (10**7, "train_cam", "training need a file of 0.1 GB, but the limit of the size of files"),
        (20_000, "make_cam", "the CAMs of 8 images need a file of"),
        (20_000, "eval_sem_seg", "scores.json'. Raise the limit of this shell (ulimit -f)"),
    ],
)
@pytest.mark.slow
def test_a_limit_of_the_size_of_files_is_told_in_one_sentence(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, num_bytes: int, steps: str, told: str
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    shutil.rmtree(out_dir / ("weights" if steps == "train_cam" else "cam"))
    flags = [f"--steps={steps}", "--overwrite", "all"]
    done = with_limit(num_bytes, arguments(tiny_dataset, out_dir, *flags))
    assert done.returncode == 2
    assert told in done.stderr
    assert "ulimit -f" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_torch_cannot_write_is_told_as_the_disk_does(tmp_path: Path) -> None:
    """Torch speaks of its archive instead."""

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device", "w.pth")

    @contextlib.contextmanager
    def full(path: Path) -> Iterator[Full]:
        yield Full()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("misc.weights.atomic_write", full)
        with pytest.raises(OSError, match="No space left on device"):
            write_torch_file({"a": torch.zeros(10_000)}, tmp_path / "w.pth")


def test_sizes_are_readable() -> None:
    assert [in_words(n) for n in (98_765_432_100, 123_000_000, 1_234_000, 0)] == [
        "98.8 GB", "0.1 GB", "1.2 MB", "0.0 MB",
    ]  # fmt: skip


def test_a_disk_that_smaller_cams_fit_on_is_enough(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SPARE_BYTES + folder_bytes(finished_run.out_dir / "cam", ".npy") // 3
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    shutil.rmtree(out_dir / "cam")
    flags = ["--steps=make_cam"]
    assert run(tiny_dataset, out_dir, *flags).status == 2
    assert run(tiny_dataset, out_dir, *flags, "--cam_high_res=no").status == 0


def test_overwriting_needs_room_for_the_new_files_beside_the_old(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    free = SPARE_BYTES + (1 << 16)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    before = states(out_dir)
    flags = ["--steps=make_cam,make_sem_seg", "--overwrite"]
    assert run(tiny_dataset, out_dir, *flags).status == 0  # nothing is stale
    assert "the CAMs of 8 images need" in run(tiny_dataset, out_dir, *flags, "all").stderr
    assert states(out_dir) == before


@pytest.mark.parametrize(
    ("flags", "most"), [(["--cam_dtype=float16"], 0.002), (["--cam_high_res=no"], 0.05)]
)
def test_masks_change_by_few_pixels(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, flags: list[str], most: float
) -> None:
    """From smaller CAM files, all later steps with the networks as they were."""
    out_dir = tmp_path / "out"
    shutil.copytree(finished_run.out_dir / "weights", out_dir / "weights")
    (out_dir / "weights" / "bes.pth.json").unlink()  # taken as they are, for one difference alone
    steps = "--steps=make_cam,eval_cam,make_boundary_label,make_walk,make_sem_seg,eval_sem_seg"
    done = run(tiny_dataset, out_dir, steps, *flags)
    assert done.status == 0, done.stderr
    changed = {}
    for name, suffix in (
        ("cam_vis", ""),
        ("boundary_label", ""),
        ("sem_seg", ""),
        ("sem_seg", "_crf"),
    ):
        pairs = [
            [read(run_dir / name / f"{i}{suffix}.png") for i in IDS]
            for run_dir in (finished_run.out_dir, out_dir)
        ]
        pixels = [(a != b).mean() for a, b in zip(*pairs, strict=True)]
        changed[name + suffix] = float(np.mean(pixels))
    assert max(changed.values()) < most, changed


def test_cam_files_of_other_storage_are_not_mixed(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    stopped = run(tiny_dataset, out_dir, "--steps=make_cam", "--cam_dtype=float16")
    assert stopped.status == 2
    assert "--cam_dtype was float32, is float16" in stopped.stderr
    half = ["--steps=make_cam", "--cam_dtype=float16", "--cam_high_res=no"]
    assert run(tiny_dataset, out_dir, *half, "--overwrite").status == 0
    assert read_cams(out_dir / "cam" / f"{IDS[0]}.npy", size_of(tiny_dataset), num_classes=20)
    stopped = run(tiny_dataset, out_dir, "--steps=make_cam", "--cam_high_res=no")
    assert "make_cam: --cam_dtype was float16, is float32\n" in stopped.stderr


def size_of(root: Path) -> tuple[int, int]:
    height, width = read(root / "SegmentationClass" / f"{IDS[0]}.png").shape
    return height, width


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)
