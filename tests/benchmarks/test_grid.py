"""That the grid's benchmark runs and counts equal work on both sides."""

import json
from pathlib import Path

import numpy as np
import pytest

from misc.cam_files import CamFolder
from tests.benchmarks import grid
from tests.benchmarks.saliency_variants import VARIANTS, main, vary
from tests.helpers.sets import write_map


def test_quick_run_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid.main(["--quick", "--json", str(tmp_path / "grid.json")])
    assert "## Threshold grid" in capsys.readouterr().out
    rows = json.loads((tmp_path / "grid.json").read_text())["rows"]
    assert rows[2]["what"].startswith("50 x 10 pairs")
    assert rows[2]["times_one_pair_with_reading"] > 0


def test_both_sides_give_the_same_matrix(tmp_path: Path) -> None:
    ids = grid.draw(tmp_path / "maps", 2, (40, 50))
    cams = CamFolder(tmp_path / "maps" / "cam", num_classes=20)
    pictures = [grid.read(tmp_path / "maps", cams, image_id) for image_id in ids]
    cells = dict(grid.all_pairs(pictures).confusions())
    assert len(cells) == 50 * 10 * 2
    for cell, confusion in list(cells.items())[::97]:
        if cell.ignore:
            assert cell.sal_thres is not None
            expected = grid.one_pair(pictures, cell.act_thres, cell.sal_thres)
            np.testing.assert_array_equal(confusion.matrix, expected.matrix)


def test_variants_of_saliency_maps(tmp_path: Path) -> None:
    saliency = np.array([[0.2, 0.6], [1.0, 0.0]])
    np.testing.assert_allclose(vary(saliency, "inverse"), 1 - saliency)
    np.testing.assert_array_equal(vary(saliency, "binarised"), [[0, 1], [1, 0]])
    blurred = vary(np.pad(saliency, 40), "blurred")
    assert 0 < blurred.max() < 0.1
    (tmp_path / "in").mkdir()
    write_map(tmp_path / "in" / "a.png", saliency)
    assert main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    for name in VARIANTS:
        assert [path.name for path in (tmp_path / "out" / name).iterdir()] == ["a.png"]
