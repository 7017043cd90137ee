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
    for part in (
        "1 threads",
        "make_seg's, 21 labels",
        "floor",
        "area x4",
        "classes 18",
        "batch 8",
        "torch, 2 processes",
    ):
        assert part in names
    assert all(row["differing"] <= 1e-4 for row in rows if "differing" in row)


def test_the_drawn_softmax_knows_its_mask_and_doubts_some_classes() -> None:
    mask = np.zeros((375, 500), np.uint8)
    mask[100:300, 150:350], mask[100:110, 150:350] = 12, 255
    softmax = crf.drawn_softmax(mask)
    assert softmax.shape == (21, 375, 500)
    assert (softmax.argmax(0).numpy() == mask)[mask != 255].mean() > 0.9
    assert 5 <= (softmax.flatten(1).amax(1) > 0.03).sum() <= 10


def test_block_labels_cover_all_labels() -> None:
    labels = crf.block_labels(100, 70, 3)
    assert labels.shape == (100, 70)
    np.testing.assert_array_equal(np.unique(labels), [0, 1, 2])
