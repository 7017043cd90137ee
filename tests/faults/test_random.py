"""Random damages of every kind of input, and random values of every flag, for a minute.

What it finds becomes a line of the table; the message says which.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pytest

from run_sample import make_parser
from tests.faults.damage import mutated, nothing
from tests.faults.probe import DONE, REFUSED, Bench, Ending, Probe, faults_of, is_of_a_run, probe
from tests.faults.table.kinds import KINDS, VALUES

SECONDS = float(os.environ.get("SBE_FAULTS_SECONDS", "60"))
SEED = int(os.environ.get("SBE_FAULTS_SEED", "0"))


def random_probe(here: Path, seed: int, number: int) -> Probe:
    """The trial of that number."""
    rng = np.random.default_rng([seed, number])
    if number % 2:
        return _random_flag(rng)
    pattern, flags, *tool = KINDS[number // 2 % len(KINDS)]
    files = sorted(path for path in here.glob(pattern) if path.is_file())
    name = str(files[rng.integers(len(files))].relative_to(here))
    what = f'mutated("{name}", {seed}, {number})'
    return probe(
        what, mutated(name, seed, number), flags, REFUSED, tool=(tool or ["run_sample"])[0]
    )


def _random_flag(rng: np.random.Generator) -> Probe:
    actions = [a for a in make_parser()._actions if not isinstance(a, argparse._HelpAction)]
    names = [a.option_strings[0] for a in actions if a.option_strings and a.dest != "help"]
    name, value = names[rng.integers(len(names))], VALUES[rng.integers(len(VALUES))]
    return probe("nothing", nothing, f"{name}={_quoted(value)} --plan", REFUSED)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def wrong_with(each: Probe, ending: Ending) -> list[str]:
    """What must not be, whatever the damage."""
    wrong = faults_of(ending)
    if ending.status not in (DONE, REFUSED):
        wrong.append(f"status {ending.status}")
    training = "stopped/weights/seg.pth.new/"
    lost = [n for n in ending.lost if not is_of_a_run(n) and not n.startswith(training)]
    if lost:
        wrong.append(f"lost: {', '.join(lost)}")
    if "--plan" in each.flags and ending.added:
        wrong.append(f"--plan wrote {', '.join(ending.added)}")
    return wrong


@pytest.mark.slow
def test_nothing_random_makes_it_fall(bench: Bench) -> None:
    end, number, found = time.monotonic() + SECONDS, 0, []
    while time.monotonic() < end:
        each = random_probe(bench.original, SEED, number)
        with bench.copy() as here:
            each.damage(here)
            ending = bench.run(here, each.tool, each.arguments)
        if wrong := wrong_with(each, ending):
            tool = "" if each.tool == "run_sample" else f', tool="{each.tool}"'
            line = f'probe("...", {each.name}, {each.flags!r}, REFUSED, "..."{tool})'
            where = f"seed {SEED}, trial {number}: {'; '.join(wrong)}"
            found.append(f"{where}\n{line}\n{ending.text[-1500:]}")
        number += 1
    assert not found, f"{len(found)} of {number} trials:\n\n" + "\n\n".join(found)
