"""The bench that the probes of a test session share."""

from collections.abc import Iterator

import pytest

from tests.faults.probe import Bench, open_bench


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    with open_bench() as opened:
        yield opened
