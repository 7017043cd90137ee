"""A second Ctrl-C, one in a bad moment, one that is ignored: in small programs without torch."""

import signal
import subprocess
import sys

import pytest

from misc.signals import Terminated, exit_status_of, number_of, words_of
from tests.helpers.paths import ROOT

PROGRAM = """
import atexit, os, signal, sys, time
from misc.signals import leave_when_stopped

BEFORE
leave_when_stopped()

from misc.command_line import exit_status, run_as_program

def send():
    os.kill(os.getpid(), NUMBER)
    sum(range(100))  # handlers run between two steps of the interpreter

class Frail:
    def __del__(self):
        send()

def work():
    WORK
    print("worked on")

run_as_program(lambda: exit_status(work))
"""
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
ONCE = "send()"
TWICE = "\n    try: send()\n    finally: send()"
IN_DEL = "del_me = Frail(); del del_me"
AT_EXIT = "atexit.register(send)"


def program(work: str, number: signal.Signals, before: str = "") -> tuple[int, str, str]:
    code = PROGRAM.replace("WORK", work).replace("BEFORE", before)
    command = [sys.executable, "-c", code.replace("NUMBER", str(int(number)))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr.strip()


def test_a_stop_has_the_status_that_shells_give_it_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert [exit_status_of(number) for number in NUMBERS] == [130, 143, 129]
    assert words_of(signal.SIGINT) == "Stopped. Run the same command again to resume."
    assert words_of(signal.SIGHUP).startswith("Stopped by SIGHUP. Run the same command")
    monkeypatch.setenv("RANK", "0")
    assert words_of(signal.SIGTERM).startswith("Stopped by SIGTERM, which torchrun also sends when")
    assert number_of(KeyboardInterrupt()) == signal.SIGINT
    assert number_of(Terminated(signal.SIGHUP)) == signal.SIGHUP


@pytest.mark.slow
@pytest.mark.usefixtures("stop_signals_heeded")
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("work", [ONCE, TWICE, IN_DEL])
def test_a_stop_in_any_moment_ends_a_program_with_one_sentence(
    work: str, number: signal.Signals
) -> None:
    assert program(work, number) == (exit_status_of(number), "", words_of(number))


@pytest.mark.slow
@pytest.mark.usefixtures("stop_signals_heeded")
@pytest.mark.parametrize("number", NUMBERS)
def test_a_stop_while_a_program_ends_has_the_same_status(number: signal.Signals) -> None:
    assert program(AT_EXIT, number) == (exit_status_of(number), "worked on\n", words_of(number))


@pytest.mark.slow
@pytest.mark.usefixtures("stop_signals_heeded")
@pytest.mark.parametrize("number", NUMBERS)
def test_what_was_ignored_before_stays_ignored(number: signal.Signals) -> None:
    before = f"signal.signal({int(number)}, signal.SIG_IGN)"
    assert program(TWICE, number, before) == (0, "worked on\n", "")
