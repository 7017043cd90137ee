"""Runs of the whole pipeline on the tiny drawn dataset, and looks at what they leave behind."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
import torch

import run_sample
from misc.crf import DenseCrf
from step.run import NOTES
from tests.helpers.paths import ROOT

TINY = {"num_train": 8, "num_val": 3, "size": 96}
TINY_FLAGS = [
    "--backbone=resnet18",
    "--backbone_weights=none",
    "--bes_backbone=cam",
    "--cam_crop_size=64",
    "--cam_resize_long=64,96",
    "--cam_batch_size=4",
    "--cam_num_epoches=2",
    "--cam_momentum=0.9",
    "--cam_learning_rate=0.02",
    "--bes_crop_size=64",
    "--bes_batch_size=4",
    "--bes_num_epoches=2",
    "--bes_momentum=0.9",
    "--checkpoint_every=0",
    "--num_workers=0",
    "--device=cpu",
    "--panels=0",
    "--report=no",
]
ARTEFACTS = ("weights", "cam", "cam_vis", "boundary_label", "walk", "sem_seg", "seg")
needs_pydensecrf = pytest.mark.skipif(
    importlib.util.find_spec("pydensecrf") is None, reason="pydensecrf is not installed"
)


class Run(NamedTuple):
    """A finished run: exit status, where it wrote, and what it said."""

    status: int
    out_dir: Path
    stdout: str
    stderr: str


def arguments(root: Path, out_dir: Path, *flags: str) -> list[str]:
    return [f"--voc12_root={root}", f"--out_dir={out_dir}", *TINY_FLAGS, *flags]


def run(root: Path, out_dir: Path, *flags: str) -> Run:
    """Run in this process."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        status = run_sample.main(arguments(root, out_dir, *flags))
    return Run(status, out_dir, stdout.getvalue(), stderr.getvalue())


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start `python COMMAND` in a session of its own, with as many threads as this process."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def contents(out_dir: Path) -> dict[str, bytes]:
    """What the steps made: path below `out_dir` -> bytes."""
    paths = [path for name in ARTEFACTS for path in (out_dir / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(out_dir)): path.read_bytes() for path in sorted(paths)}


def scores_of(out_dir: Path) -> dict[str, Any]:
    """What stands in scores.json."""
    return json.loads((out_dir / "scores.json").read_text())


def run_of(out_dir: Path) -> dict[str, Any]:
    """What stands in run.json."""
    return json.loads((out_dir / "run.json").read_text())


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its inode and time of change: what is rewritten differs.

    The log and run.json, of the last run, are left out, and what a run keeps to save time.
    """
    files = (
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in ("run.json", "sample_train_eval.log")
        and NOTES not in path.parts
    )
    return {str(f.relative_to(folder)): (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


def copy_run(source: Path, target: Path) -> Path:
    """A copy of a finished run that is cheap, and as safe: files are replaced, never changed."""
    left_out = shutil.ignore_patterns("*.log", NOTES)
    shutil.copytree(source, target, copy_function=os.link, ignore=left_out)
    return target


def copy_dataset(source: Path, target: Path) -> Path:
    """A copy of a dataset to spoil: what is written there must not reach the original."""
    shutil.copytree(source, target)
    return target


def watch_crfs_here(monkeypatch: pytest.MonkeyPatch, free_cores: int) -> Mock:
    """Counts the CRFs that are made in this process, not those of its workers.

    The machine seems to have so many cores more than the network has threads.
    """
    cores = torch.get_num_threads() + free_cores
    monkeypatch.setattr("misc.runtime.device.available_cpus", lambda: cores)
    crf = Mock(wraps=DenseCrf)
    monkeypatch.setattr("misc.crf.DenseCrf", crf)
    return crf
