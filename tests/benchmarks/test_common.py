"""The benchmarks' helpers, and that a benchmark runs."""

import json
import math
from pathlib import Path

import pytest
import torch

from misc.runtime import keep_freed_memory
from tests.benchmarks import common, random_walk
from tests.helpers.memory import CLEAR_REFS


def test_time_call_gives_the_median_after_the_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    durations = iter([50.0, 1.0, 9.0, 2.0])

    def function() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr(common.time, "perf_counter", lambda: clock[0])
    assert common.time_call(function, repeats=3, warmup=1) == 2.0


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="needs Linux")
def test_measure_once_sees_the_peak_and_not_what_stays() -> None:
    def touch_64_mib() -> float:
        return torch.ones(8 * 2**20, dtype=torch.float64).sum().item()

    keep_freed_memory()  # so that what this call frees stays in the process
    touch_64_mib()
    measured = common.measure_once(touch_64_mib)
    assert measured.result == 8 * 2**20
    assert measured.seconds > 0
    assert 60 < measured.peak_mib < 80


def test_rates_are_positive() -> None:
    assert common.copy_rate(80_000) > 0
    assert common.matmul_rate(32) > 0


def test_machine_info_names_the_essentials() -> None:
    info = common.machine_info()
    assert {"cpu", "cores", "gpu", "torch", "commit"} <= info.keys()


def test_report_as_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = common.Report("Trial", quick=True, machine={"cpu": "some"})
    report.add("first", seconds=0.123456, peak_mib=math.nan)
    report.add("second", ratio=2)
    report.finish(tmp_path / "new" / "trial.json")
    shown = capsys.readouterr().out
    assert "| first | 0.1235 | nan |  |" in shown
    assert "| second |  |  | 2 |" in shown
    written = json.loads((tmp_path / "new" / "trial.json").read_text())
    assert written["quick"] is True
    assert written["rows"][0] == {"what": "first", "seconds": 0.123456, "peak_mib": None}


def test_dense_way_of_the_benchmark_agrees_with_ours() -> None:
    """What is timed on both sides is the same walk."""
    cam, boundary = random_walk.make_input(12, 14, 2, "cpu")
    walk = random_walk.square(random_walk.dense_transition(boundary), 8)
    dense = random_walk.dense_walk(cam, boundary, walk)
    assert random_walk.relative_error(dense, random_walk.random_walk(cam, boundary)) < 1e-4
