"""Every line of the table: the command ends as it says, and nothing is lost."""

import pytest

from tests.faults.probe import Bench, Probe, judge
from tests.faults.table import TABLE


def _parameters() -> list[object]:
    return [
        pytest.param(
            each,
            id=each.name,
            marks=[pytest.mark.xfail(reason=each.pending, strict=True)] if each.pending else [],
        )
        for each in TABLE
    ]


@pytest.mark.slow
@pytest.mark.parametrize("each", _parameters())
def test_it_ends_as_the_table_says(bench: Bench, each: Probe) -> None:
    with bench.copy() as here:
        each.damage(here)
        ending = bench.run(here, each.tool, each.arguments, **each.options)
    wrong = judge(each, ending)
    assert not wrong, f"{'; '.join(wrong)}\n{each.tool} {each.flags}\n{ending.text}"
