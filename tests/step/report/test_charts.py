"""Charts: where things lie, on numbers that can be checked by hand."""

import pytest

from step.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    Mark,
    line_chart,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 100, [0, 25, 50, 75, 100]),
        (3, 17, [0, 5, 10, 15]),
        (0.001, 0.1, [0, 0.025, 0.05, 0.075, 0.1]),
        (5, 5, [4]),
        (0, 0, [0]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high)[: len(expected)] == expected


def test_a_line_goes_from_corner_to_corner() -> None:
    chart = line_chart([Line("loss", [1, 3], [0, 100])], "update")
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    assert chart["lines"] == [{"name": "loss", "d": f"M{LEFT} {bottom}L{right} {TOP}"}]


def test_a_gap_begins_the_line_anew() -> None:
    chart = line_chart([Line("loss", [0, 1, 2, 3, 4], [0, 0, None, 1, 1])], "update")
    assert chart["lines"][0]["d"].count("M") == 2


def test_one_point_alone_is_no_division_by_zero() -> None:
    chart = line_chart([Line("loss", [1], [5])], "update")
    assert chart["lines"][0]["d"].startswith("M")


def test_words_of_marks_stay_inside() -> None:
    chart = line_chart(
        [Line("a", [0, 1], [0, 1])], "t", [Mark(0.1, 1, "left"), Mark(0.9, 1, "right")]
    )
    assert [mark["side"] for mark in chart["marks"]] == ["start", "end"]
