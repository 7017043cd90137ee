"""What the report reads: CSVs of trainings, and scores as rows."""

from pathlib import Path
from typing import Any

import pytest

from misc.errors import UserError
from step.report.curves import KEPT_POINTS, read_columns, threshold_curves
from step.report.scores import score_rows

HEADER = "update,epoch,loss,learning_rate\n"


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cam.curve.csv"
    path.write_text(f"{HEADER}1,1,0.5,0.1\n2,1,nan,0.05\n3,1")
    assert read_columns(path, ("update", "loss")) == {"update": [1, 2], "loss": [0.5, None]}


@pytest.mark.parametrize("count", [4 * KEPT_POINTS - 1, 4 * KEPT_POINTS])
def test_long_curves_are_thinned_and_keep_their_end(tmp_path: Path, count: int) -> None:
    path = tmp_path / "cam.curve.csv"
    rows = "".join(f"{k},1,1,0.1\n" for k in range(1, count + 1))
    path.write_text(HEADER + rows)
    updates = read_columns(path, ("update",))["update"]
    assert len(updates) == KEPT_POINTS
    assert updates[-1] == count


@pytest.mark.parametrize("content", [b"update\n1\n", HEADER.encode() + b"a,b,c,d\n", b"\xff\xfe"])
def test_something_else_is_no_curve(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cam.curve.csv"
    path.write_bytes(content)
    if content == b"\xff\xfe" or b"a,b" in content:
        with pytest.raises(UserError, match=r"cam\.curve\.csv holds no curve"):
            read_columns(path, ("loss",))
    else:
        with pytest.raises(UserError, match="loss"):
            read_columns(path, ("loss",))


def masks(miou: float, crf: float) -> dict[str, Any]:
    return {
        "images": 4,
        "miou": miou,
        "miou_crf": crf,
        "iou": {"cat": miou},
        "iou_crf": {"cat": crf},
    }


def test_each_kind_of_masks_has_a_row_in_the_order_of_the_steps() -> None:
    of_seg = {"split": "val", "runs": [
        {"seed": 0, "checkpoint": "last", "iou": {"cat": 0.2, "cow": None}},
        {"seed": 1, "checkpoint": "last", "iou": {"cat": 0.4, "cow": None}},
    ], "last": {"miou": {"mean": 0.3, "std": 0.1, "seeds": 2}}}  # fmt: skip
    results = {
        "eval_seg": of_seg,
        "eval_sem_seg_bes": masks(0.4, 0.5),
        "eval_sem_seg": masks(0.6, 0.7),
    }
    rows = score_rows(results, "SBE")
    assert [(row["name"], row["miou"]) for row in rows] == [
        ("BES", 0.4), ("SBE", 0.6), ("DeepLab-v2", 0.3),
    ]  # fmt: skip
    assert rows[0]["iou_crf"] == {"cat": 0.5}
    assert rows[2]["miou_std"] == 0.1
    assert rows[2]["seeds"] == [0, 1]
    assert rows[2]["iou"] == {"cat": pytest.approx(0.3), "cow": None}


def test_only_what_was_scored_at_all_thresholds_has_a_curve() -> None:
    curve = {"threshold": [0.1, 0.2], "miou": [0.3, None]}
    of_cam = {
        "curve": curve,
        "threshold": 0.2,
        "miou": 0.1,
        "best_threshold": 0.1,
        "best": {"miou": 0.3},
    }
    (found,) = threshold_curves({"eval_cam_own": of_cam, "eval_sem_seg": masks(0.1, 0.2)})
    assert found["name"] == "CAM own"
    assert found["best"] == {"threshold": 0.1, "miou": 0.3}
    assert found["miou"] == [0.3, None]
