"""Runs side by side, on reports small enough to be checked by hand, and through the command."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from step.report.__main__ import main
from step.report.gallery import counts_of

NAMES = ["background", "cat"]
RIGHT, WRONG, OPEN = [[0, 0, 50], [1, 1, 50]], [[0, 0, 50], [1, 0, 50]], [[0, 0, 50], [1, 2, 50]]


def write_report(out_dir: Path, cells: Mapping[str, Sequence[list[int]]], **changes: Any) -> Path:
    """The report of a run whose images have these confusions."""
    iou = {str(RIGHT): 1.0, str(WRONG): 0.25}
    images = [{"id": name, "iou": {"mask": iou[str(found)]}} for name, found in cells.items()]
    settings = {"seed": 5, "beta": 5.0, "num_workers": 2, "cam_out_dir": None, **changes}
    facts = {
        "made_by": "step.report",
        "head": {"method": "SBE", "seeds": [settings["seed"]], "commit": None, "dataset": "voc",
                 "seconds": 1.0, "settings": settings},
        "scores": [{"key": "eval_sem_seg", "name": "SBE", "note": "",
                    "miou": changes.get("miou", 0.5), "iou": {"background": 0.5, "cat": None}}],
        "gallery": {"main": "mask", "images": images},
        "class_names": NAMES,
    }  # fmt: skip
    folder = out_dir / "report"
    (folder / "gallery").mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(facts))
    shown = {name: {"cells": {"mask": found}} for name, found in cells.items()}
    (folder / "gallery" / "made.json").write_text(json.dumps({"images": shown}))
    return out_dir


def compared(to: Path) -> dict[str, Any]:
    return json.loads((to / "report.json").read_text())


def test_counts_of_an_image() -> None:
    assert counts_of([[0, 0, 7], [0, 1, 2], [1, 2, 4]], 2).tolist() == [[7, 0], [9, 4], [7, 2]]


def test_settings_differ_where_results_depend_on_them(tmp_path: Path) -> None:
    first = write_report(tmp_path / "a", {"x": RIGHT})
    second = write_report(
        tmp_path / "b", {"x": RIGHT}, beta=10.0, num_workers=8, cam_out_dir="elsewhere"
    )
    assert main([str(first), str(second), f"--to={tmp_path / 'to'}"]) == 0
    assert compared(tmp_path / "to")["settings"] == {"beta": [5.0, 10.0]}
    assert "--beta" in (tmp_path / "to" / "compare.html").read_text()


def test_runs_that_only_differ_in_the_seed_have_a_mean_and_students_interval(
    tmp_path: Path,
) -> None:
    folders = [
        str(write_report(tmp_path / str(seed), {"x": RIGHT}, seed=seed, miou=miou))
        for seed, miou in enumerate((0.4, 0.5, 0.6))
    ]
    other = write_report(tmp_path / "other", {"x": RIGHT}, beta=10.0)
    assert main([*folders, str(other), f"--to={tmp_path / 'to'}"]) == 0
    (group,) = compared(tmp_path / "to")["seeds"]
    assert group["runs"] == ["0", "1", "2"]
    (score,) = group["scores"]
    assert score["name"] == "masks"
    assert (score["mean"], score["std"], score["seeds"]) == pytest.approx((0.5, 0.1, 3))
    # Student's t of 2 degrees of freedom at 97.5 %: 4.3027.
    assert score["low"] == pytest.approx(0.5 - 4.3027 * 0.1 / 3**0.5, abs=1e-5)
    assert score["high"] == pytest.approx(0.5 + 4.3027 * 0.1 / 3**0.5, abs=1e-5)


def test_the_images_that_gained_most_come_first(tmp_path: Path) -> None:
    first = write_report(tmp_path / "a", {"x": RIGHT, "y": WRONG, "z": RIGHT, "only a": RIGHT})
    second = write_report(tmp_path / "b", {"x": WRONG, "y": RIGHT, "z": RIGHT})
    assert main([f"A={first}", f"B={second}", f"--to={tmp_path / 'to'}"]) == 0
    facts = compared(tmp_path / "to")
    (pair,) = facts["pairs"]
    assert (pair["first"], pair["other"]) == ("A", "B")
    assert [(row["id"], row["gain"]) for row in pair["images"]] == [
        ("y", 0.75), ("z", 0), ("x", -0.75),
    ]  # fmt: skip
    images = facts["images"]
    assert images["count"] == 3
    # Two of three right in both: 250 of 300 pixels, 100 of 150 and 150 of 200 of them.
    assert [row["miou"] for row in images["rows"]] == pytest.approx([(0.75 + 2 / 3) / 2] * 2)
    assert images["rows"][1]["difference"] == 0
    assert images["rows"][1]["difference_low"] < 0 < images["rows"][1]["difference_high"]


def test_what_is_no_run_with_a_report_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_report(tmp_path / "a", {"x": RIGHT})
    to = f"--to={tmp_path / 'to'}"
    assert main([str(run), str(tmp_path / "none"), to]) == 2
    assert "--steps report" in capsys.readouterr().err
    assert main([str(run), to]) == 2
    assert "at least two" in capsys.readouterr().err
    assert main([str(run), str(run), to]) == 2
    assert "Two runs are called a" in capsys.readouterr().err
    strange = tmp_path / "strange" / "report" / "report.json"
    strange.parent.mkdir(parents=True)
    strange.write_text("[]")
    assert main([str(run), str(strange.parents[1]), to]) == 2
    assert "is not the report of a run" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_it_overwrites_nothing_of_anybody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(write_report(tmp_path / name, {"x": RIGHT})) for name in "ab"]
    mine = tmp_path / "to" / "compare.html"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert main([*runs, f"--to={mine.parent}"]) == 2
    assert "--to" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    mine.unlink()
    assert main([*runs, f"--to={mine.parent}"]) == 0
    assert main([*runs, f"--to={mine.parent}"]) == 0  # its own may be replaced
    shutil.rmtree(mine.parent)


def test_a_comparison_never_takes_the_place_of_a_run_s_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_report(tmp_path / name, {"x": RIGHT}) for name in "ab"]
    before = compared(runs[0] / "report")
    assert main([*map(str, runs), f"--to={runs[0] / 'report'}"]) == 2
    assert "Choose another --to" in capsys.readouterr().err
    assert compared(runs[0] / "report") == before


def test_a_record_that_does_not_fit_its_report_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_report(tmp_path / name, {"x": RIGHT}) for name in "ab"]
    record = runs[1] / "report" / "gallery" / "made.json"
    record.write_text(json.dumps({"images": {}}))  # as where a later report was stopped
    assert main([*map(str, runs), f"--to={tmp_path / 'to'}"]) == 2
    assert f"{record} does not fit" in capsys.readouterr().err
