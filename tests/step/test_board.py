"""TensorBoard shows the curves and sheets that lie in the folder of the run."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.segmentation import run_seg
from tests.helpers.tiny import Run, copy_run, run

IGNORED = "ignore::DeprecationWarning:tensorboard"


def events_in(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def rows_of(path: Path) -> list[list[float]]:
    return [[float(cell) for cell in row.split(",")] for row in path.read_text().splitlines()[1:]]


def shown(events: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def single(value: float) -> Any:
    return pytest.approx(value, rel=1e-5)


@pytest.mark.filterwarnings(IGNORED)
def test_curves_and_sheets_of_a_finished_run_are_shown_and_once(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    done = run(tiny_dataset, out_dir, "--panels=2", "--tensorboard=yes")
    assert done.status == 0, done.stderr
    assert f"tensorboard --logdir  {out_dir / 'tensorboard'}" in done.stdout
    for name in ("cam", "bes"):
        events = events_in(out_dir / "tensorboard" / f"train_{name}")
        rows = rows_of(out_dir / "weights" / f"{name}.curve.csv")
        assert shown(events, "train/loss") == [(row[0], single(row[2])) for row in rows]
        assert shown(events, "train/learning_rate") == [(r[0], single(r[3])) for r in rows]
    sheets = events_in(out_dir / "tensorboard" / "contact_sheets")
    assert sheets.Tags()["images"] == ["2007_000001", "2007_000008"]
    there = sorted((out_dir / "tensorboard").rglob("*"))
    assert run(tiny_dataset, out_dir, "--panels=2", "--tensorboard=yes").status == 0
    assert sorted((out_dir / "tensorboard").rglob("*")) == there


@pytest.mark.filterwarnings(IGNORED)
def test_a_training_again_takes_the_place_of_the_first_and_val_is_shown(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    flags = ["--steps=train_seg", "--tensorboard=yes"]
    assert run_seg(tiny_dataset, tmp_path, *flags).status == 0
    again = run_seg(tiny_dataset, tmp_path, *flags, "--seg_iters=3", "--overwrite")
    assert again.status == 0, again.stderr
    events = events_in(tmp_path / "tensorboard" / "train_seg")
    rows = rows_of(tmp_path / "weights" / "seg.curve.csv")
    assert [row[0] for row in rows] == [1, 2, 3]
    assert shown(events, "train/loss") == [(row[0], single(row[2])) for row in rows]
    val = rows_of(tmp_path / "weights" / "seg.val.csv")
    assert shown(events, "val/miou") == [(row[0], single(row[1])) for row in val]
    assert [row[0] for row in val] == [2, 3]


def test_without_the_package_the_plan_says_what_to_type(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "tensorboard" else real(name, *more),
    )
    done = run(tiny_dataset, tmp_path / "out", "--tensorboard=yes")
    assert done.status == 2
    assert "--tensorboard yes needs the package tensorboard. Install it: pip install" in done.stderr
    assert not (tmp_path / "out" / "weights").exists()
