"""Runs with a fault each, all forked from one process that has imported what takes long."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from tests.helpers.tiny import start

# `fault(*words)` is defined by the test: it prepares a process that is to run `flags`.
FORKS = """
import json, os, sys, tempfile
import accelerate, torch._dynamo, torchvision.models
import run_sample, step.common.runner, step.common.predict, step.common.panels
import misc.training, net.cam, net.losses
from step.graph import all_steps
from misc.command_line import run_as_program
from misc.signals import leave_when_stopped

PREPARE

all_steps()  # loads them
for words, flags in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        child = os.fork()
        if child == 0:
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            leave_when_stopped()
            fault(*words)
            run_as_program(lambda: run_sample.main(flags))
        _, status = os.waitpid(child, 0)
        stdout.seek(0), stderr.seek(0)
        said = [os.waitstatus_to_exitcode(status), stdout.read(), stderr.read()]
        print(json.dumps(said), flush=True)
"""


class Ended(NamedTuple):
    """A process that has ended: its exit status (minus a signal that killed it), what it said."""

    status: int
    stdout: str
    stderr: str


def runs_with(
    prepare: str, cases: Sequence[tuple[Sequence[object], Sequence[str]]], *, seconds: float = 600
) -> list[Ended]:
    """Run `run_sample.py` once for each of `cases`, one after the other.

    Args:
        prepare: code that defines `fault(*words)`, which prepares the process of a case.
        cases: words and flags of each.
        seconds: of patience with all together.
    """
    process = start(["-c", FORKS.replace("PREPARE", prepare), json.dumps(cases)])
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    finally:
        process.kill()
    ended = [Ended(*json.loads(line)) for line in stdout.splitlines()]
    assert len(ended) == len(cases), stderr
    return ended
