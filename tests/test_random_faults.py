"""Killed, or with a full disk, at a hundred random moments a run ends with the same files.

A moment is a change on disk: a file opened to be written, a write, a rename, a folder made. Each
start goes on where the last one ended, in a process forked from one that has imported everything.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.forks import runs_with
from tests.helpers.tiny import Run, arguments, contents, run, scores_of

FAULTS, SEED = 100, 20
# Changes on disk until the fault; some of a start's first ones are those of its plan and its log.
AT_LEAST, BELOW = 5, 30
AT_THE_NTH_CHANGE = """
import builtins, errno, io, signal

def fault(kind, number):
    left = number

    def change(path):
        nonlocal left
        left -= 1
        if left == 0 and kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if left <= 0:  # a disk that is full stays full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    class Raw(io.FileIO):
        def write(self, data):
            change(self.name)
            return super().write(data)

    def changing(function):
        def changed(path, *rest, **options):
            change(path)
            return function(path, *rest, **options)
        return changed

    def opened(path, mode="r", *rest, **options):
        if isinstance(path, int) or not set(mode) & set("wxa"):
            return really_open(path, mode, *rest, **options)
        change(path)
        file = io.BufferedWriter(Raw(path, mode.replace("t", "").replace("b", "")))
        if "b" in mode:
            return file
        encoding = options.get("encoding") or (rest[1] if len(rest) > 1 else None)
        return io.TextIOWrapper(file, encoding=encoding, write_through=True)

    really_open = builtins.open
    builtins.open = io.open = opened
    os.replace, os.mkdir = changing(os.replace), changing(os.mkdir)
    whole_files._Partial = type("_Partial", (whole_files._Partial,), {"write": noting(change)})

def noting(change):
    def write(self, data):
        try:
            change(self.name)
        except OSError as error:
            self.refusal = error
            raise
        return io.FileIO.write(self, data)
    return write

from misc.workspace import whole_files
"""


@pytest.mark.slow
def test_stopped_a_hundred_times_a_run_ends_with_the_same_files(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    rng = np.random.default_rng(SEED)
    faults = [
        (str(rng.choice(["kill", "full"])), int(rng.integers(AT_LEAST, BELOW)))
        for _ in range(FAULTS)
    ]
    flags = arguments(tiny_dataset, tmp_path, "--panels=2")
    ended = runs_with(AT_THE_NTH_CHANGE, [(fault, flags) for fault in faults])
    for (kind, _), each in zip(faults, ended, strict=True):
        assert "Traceback" not in each.stderr
        if kind == "kill":
            assert each.status in (-9, 0)
        else:
            assert each.status in (2, 0), each.stderr
            assert "No space left on device" in each.stderr or each.status == 0
    stopped = [each.status != 0 for each in ended]
    assert sum(stopped) > FAULTS / 2, "it had ended long before: make the steps between smaller"
    last = run(tiny_dataset, tmp_path, "--panels=2")
    assert last.status == 0, last.stderr
    assert contents(tmp_path) == contents(finished_run.out_dir)
    scores, expected = scores_of(tmp_path), scores_of(finished_run.out_dir)
    for step in ("eval_cam", "eval_walk", "eval_sem_seg"):
        for key in ("iou", "miou", "curve"):
            assert scores[step].get(key) == expected[step].get(key)
    assert json.loads((tmp_path / "panels" / "sources.json").read_text())
    assert not [*tmp_path.rglob("*.partial"), *tmp_path.rglob("*.new")]
