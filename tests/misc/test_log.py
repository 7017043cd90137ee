import io
import logging
import re
from collections.abc import Iterator

import pytest

from misc.log import Place, at, progress, setup_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time; `monotonic` gives its only entry."""
    now = [100.0]
    monkeypatch.setattr("misc.log.time.monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    setup_logging(None)
    yield
    setup_logging(None)


def test_without_a_terminal_there_is_a_line_every_half_minute(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    bar = progress(range(10), desc="make_cam")
    for number in bar:
        clock[0] += 12
        bar.tell(f"loss 0.{number}")
    assert capsys.readouterr().err.splitlines() == [
        "make_cam: 3 of 10 (30 %) after 00:36, 01:24 left, loss 0.2",
        "make_cam: 6 of 10 (60 %) after 01:12, 00:48 left, loss 0.5",
        "make_cam: 9 of 10 (90 %) after 01:48, 00:12 left, loss 0.8",
    ]


def test_a_step_says_which_it_is_and_how_long_the_run_takes(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    for place, of_run in (
        (Place(3, 7, later=60), ", run: 01:20 left"),
        (Place(3, 7, later=60, unknown=1), ", run: over 01:20 left"),
        (Place(3, 7, unknown=4), ", then 4 steps"),
        (Place(6, 7, unknown=1), ", then 1 step"),
        (Place(7, 7), ""),
    ):
        with at(place):
            for _ in progress(range(3), desc="make_cam"):
                clock[0] += 20
        for _ in progress(range(1), desc="another"):
            clock[0] += 1
        lines = capsys.readouterr().err.splitlines()
        expected = f"[{place.number}/7] make_cam: 2 of 3 (66 %) after 00:40, 00:20 left{of_run}"
        assert lines[-1] == expected


def test_the_rate_is_that_of_this_run_and_an_item_may_stand_for_several(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    for _ in progress(iter("ab"), desc="scores", total=50, done=20, each=16):
        clock[0] += 32
    assert capsys.readouterr().err.splitlines() == [
        "scores: 36 of 50 (72 %) after 00:32, 00:28 left",
        "scores: 50 of 50 (100 %) after 01:04, 00:00 left",
    ]


def test_on_a_terminal_a_bar_disappears_and_lines_stand_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("misc.log.SECONDS_A_BAR", 0.0)
    with at(Place(1, 2, later=600)):
        bar = progress(range(4), desc="train_cam")
        for number in bar:
            bar.tell("loss 0.125, rate 0.1")
            if number == 1:
                logging.getLogger("x").info("epoch 1")
    shown = terminal.getvalue()
    assert re.search(r"\[1/2\] train_cam:  50%\|.*\| 2/4 \[.*, loss 0.125, rate 0.1, run: ", shown)
    (written,) = (line for line in shown.split("\n") if "epoch 1" in line)
    assert written.rpartition("\r")[2] == "epoch 1"
    last = shown.split("\n")[-1]
    assert last.endswith("\r")
    assert last.split("\r")[-2].strip() == ""


def test_nothing_is_shown_of_no_items(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert list(progress([], desc="nothing")) == []
    assert list(progress(iter(()), desc="nothing", total=0)) == []
    assert terminal.getvalue() == ""


def test_a_quiet_console_has_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    setup_logging(None, quiet=True)
    assert list(progress(range(3), desc="work")) == [0, 1, 2]
    assert terminal.getvalue() == ""
