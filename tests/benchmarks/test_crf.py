"""That the CRF's benchmark runs and times equal work."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import crf

pytestmark = pytest.mark.slow


def test_quick_run_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crf.main(["--quick", "--json", str(tmp_path / "crf.json")])
    assert "## Dense CRF" in capsys.readouterr().out
    rows = json.loads((tmp_path / "crf.json").read_text())["rows"]
    names = " ".join(row["what"] for row in rows)
    for part in ("1 threads", "floor", "area x4", "classes 18", "batch 8", "torch, 2 processes"):
        assert part in names
    assert all(row["differing"] <= 1e-4 for row in rows if "differing" in row)


def test_block_labels_cover_all_labels() -> None:
    labels = crf.block_labels(100, 70, 3)
    assert labels.shape == (100, 70)
    np.testing.assert_array_equal(np.unique(labels), [0, 1, 2])
