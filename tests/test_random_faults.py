"""Killed, or with a full disk, at a hundred random moments runs end with the same files.

A moment is a change on disk: a file opened to be written, a part of it written, a rename, a folder
made. Each start goes on where the last one ended, in a process forked from a prepared one.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.forks import runs_with
from tests.helpers.tiny import Run, arguments, contents, run, scores_of

RUNS, FAULTS, SEED = 5, 20, 20
FEWEST, MOST = 2, 52  # changes on disk until a fault; the plan and the log are about 17 of them
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
        writes = 0
        def write(self, data):
            if self.writes % 40 == 0:  # a checkpoint takes a hundred and more
                change(self.name)
            self.writes += 1
            return super().write(data)

    class Partial(whole_files._Partial, Raw):
        pass

    def changing(function):
        def changed(path, *rest, **options):
            change(path)
            return function(path, *rest, **options)
        return changed

    def opened(path, mode="r", *rest, **options):
        if isinstance(path, int) or not set(mode) & set("wxa"):
            return really_open(path, mode, *rest, **options)
        change(path)
        raw = Raw(path, mode.replace("t", "").replace("b", ""))
        if (rest[0] if rest else options.get("buffering", -1)) == 0:
            return raw
        file = io.BufferedWriter(raw)
        if "b" in mode:
            return file
        encoding = options.get("encoding") or (rest[1] if len(rest) > 1 else None)
        return io.TextIOWrapper(file, encoding=encoding, write_through=True)

    really_open = builtins.open
    builtins.open = io.open = opened
    os.replace, os.mkdir = changing(os.replace), changing(os.mkdir)
    whole_files._Partial = Partial

from misc.workspace import whole_files
"""


@pytest.mark.slow
def test_stopped_a_hundred_times_runs_end_with_the_same_files(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    rng = np.random.default_rng(SEED)
    out_dirs = [tmp_path / str(number) for number in range(RUNS)]
    faults = [
        (str(rng.choice(["kill", "full"])), int(rng.integers(FEWEST, MOST + 1)))
        for _ in range(RUNS * FAULTS)
    ]
    flags = [arguments(tiny_dataset, out_dir, "--panels=2") for out_dir in out_dirs]
    cases = [(fault, flags[number // FAULTS]) for number, fault in enumerate(faults)]
    ended = runs_with(AT_THE_NTH_CHANGE, cases)
    for (kind, _), each in zip(faults, ended, strict=True):
        assert "Traceback" not in each.stderr
        if kind == "kill":
            assert each.status in (-9, 0)
        elif each.status:
            assert each.status == 2
            assert "No space left on device" in each.stderr
            assert "Free some space" in each.stderr
    assert sum(each.status != 0 for each in ended) > 0.8 * len(ended), "runs end too early"
    for out_dir in out_dirs:
        last = run(tiny_dataset, out_dir, "--panels=2")
        assert last.status == 0, last.stderr
        assert contents(out_dir) == contents(finished_run.out_dir)
        scores, expected = scores_of(out_dir), scores_of(finished_run.out_dir)
        for step in ("eval_cam", "eval_walk", "eval_sem_seg"):
            for key in ("iou", "miou", "curve"):
                assert scores[step].get(key) == expected[step].get(key)
        assert len(json.loads((out_dir / "panels" / "sources.json").read_text())) == 2
        assert not [*out_dir.rglob("*.partial"), *out_dir.rglob("*.new")]
