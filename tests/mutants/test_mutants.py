"""The tables fit the code: `python -m tests.mutants` can try each of them."""

import ast
import re
from collections import Counter

import pytest

from tests.helpers.paths import ROOT
from tests.mutants import functions, wiring
from tests.mutants.mutant import Mutant

ALL = (*functions.MUTANTS, *wiring.MUTANTS)


def test_there_are_as_many_as_were_promised() -> None:
    assert len(ALL) >= 175
    assert len(functions.MUTANTS) >= 100
    assert len(wiring.MUTANTS) >= 75
    twice = [what for what, count in Counter((m.file, m.name) for m in ALL).items() if count > 1]
    assert not twice


@pytest.mark.parametrize("file", dict.fromkeys(m.file for m in ALL))
def test_a_mutant_is_another_program_and_its_tests_exist(file: str) -> None:
    text = (ROOT / file).read_text()
    program = ast.dump(ast.parse(text))
    for mutant in (m for m in ALL if m.file == file):
        assert text.count(mutant.old) == 1, mutant
        changed = text.replace(mutant.old, mutant.new)
        assert ast.dump(ast.parse(changed)) != program, mutant
        assert mutant.tests
        check_tests(mutant)


def check_tests(mutant: Mutant) -> None:
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert re.search(rf"^def {name.partition('[')[0]}\(", (ROOT / file).read_text(), re.M), test
