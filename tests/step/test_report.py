from pathlib import Path
from typing import Any

import pytest

from misc.errors import UserError
from misc.workspace import Record
from step.common.scorefile import ScoreFile
from step.common.scores import percent
from step.common.table import table
from step.graph import step_named


def test_scores_of_earlier_runs_are_kept(tmp_path: Path) -> None:
    first = ScoreFile(tmp_path / "scores.json")
    assert first.step("eval_cam") == {}
    first.put("eval_cam", {"miou": 0.5}, Record({"beta": 5}))
    second = ScoreFile(tmp_path / "scores.json")
    second.put("make_cam", {"images": 6})
    third = ScoreFile(tmp_path / "scores.json")
    assert third.content == {"eval_cam": {"miou": 0.5}, "make_cam": {"images": 6}}
    assert third.record("eval_cam") == Record({"beta": 5})
    assert third.record("make_cam") is None


def test_a_record_counts_with_its_own_result_only(tmp_path: Path) -> None:
    scores = ScoreFile(tmp_path / "scores.json")
    scores.put("eval_cam", {"miou": 0.5}, Record({"beta": 5}))
    scores.put("eval_cam", {"miou": 0.6})  # as if the run were stopped before the record
    assert ScoreFile(tmp_path / "scores.json").record("eval_cam") is None


@pytest.mark.parametrize("content", ["{", "[]", '{"seed": 5}'])
def test_broken_scores_are_the_users_mistake(tmp_path: Path, content: str) -> None:
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(UserError, match=r"scores\.json .*(Delete it|Move it away)"):
        ScoreFile(tmp_path / "scores.json")


@pytest.mark.parametrize(
    ("step", "result", "line"),
    [
        ("eval_sem_seg", {"miou": 0.6649, "miou_crf": 0.671}, "mIoU 66.5, after CRF 67.1"),
        (
            "eval_sem_seg",
            {"miou": 0.5, "miou_crf": 0.6, "miou_chosen": 0.7, "miou_chosen_crf": 0.8},
            "mIoU 50.0, after CRF 60.0 (chosen classes 70.0, 80.0)",
        ),
        (
            "eval_cam",
            {"miou": 0.48, "threshold": 0.21, "best_threshold": 0.15, "best": {"miou": 0.483}},
            "mIoU 48.0 at threshold 0.21, best 48.3 at 0.15",
        ),
        (
            "eval_cam",
            {
                "miou": None,
                "threshold": 0.2,
                "best_threshold": 0.1,
                "best": {"miou": None, "miou_chosen": 0.5},
            },
            "mIoU - at threshold 0.2, best - at 0.1 (chosen classes 50.0)",
        ),
        ("train_bes", {"images": 48, "loss": 0.12345}, "loss 0.1235"),
        (
            "train_seg",
            {"loss": 1.0, "initialisation": "random"},
            "loss 1.0000, started from: random",
        ),
        ("make_cam", {"images": 48}, ""),
        ("benchmark", {"summary": "best mIoU 50.0"}, "best mIoU 50.0"),
    ],
)
def test_a_result_fits_on_a_line(step: str, result: dict[str, Any], line: str) -> None:
    assert step_named(step).describe(result) == line


@pytest.mark.parametrize(("score", "text"), [(0.6646, "66.5"), (0.0, "0.0"), (None, "-")])
def test_scores_are_shown_in_percent(score: float | None, text: str) -> None:
    assert percent(score) == text


def test_columns_of_a_table_are_aligned() -> None:
    assert table(["step", "s"], [["train_cam", "1"], ["x", "20"]]) == (
        "step       s\n----       -\ntrain_cam  1\nx          20"
    )


def test_a_table_keeps_to_its_width_by_wrapping_its_widest_column() -> None:
    rows = [["make_sem_seg", "stale", "--beta was 5, is 10; follows train_bes", "600"]]
    shown = table(["step", "state", "why", "images"], rows, width=50)
    lines = shown.splitlines()
    assert all(len(line) <= 50 for line in lines)
    assert [line.split() for line in lines[2:]] == [
        ["make_sem_seg", "stale", "--beta", "was", "5,", "is", "10;", "600"],
        ["follows", "train_bes"],
    ]
