"""That the benchmark of start-up runs, and that its dataset is what it says."""

import json
from pathlib import Path

import numpy as np
import pytest

from misc.images import read_mask
from tests.benchmarks import startup
from voc12.files import VocDataset
from voc12.image_labels import read_tags
from voc12.lists import split_ids

pytestmark = pytest.mark.slow


def test_quick_run_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    startup.main(["--quick", "--json", str(tmp_path / "startup.json")])
    assert "## Starting a run" in capsys.readouterr().out
    rows = json.loads((tmp_path / "startup.json").read_text())["rows"]
    assert [row["pending"] for row in rows] == [1000, 1000, 1000, 1000, 500]
    for row in rows:
        phases = [value for name, value in row.items() if name.endswith("_s")]
        assert row["seconds"] == pytest.approx(sum(phases))


def test_masks_table_and_xml_of_the_drawn_images_agree(tmp_path: Path) -> None:
    root = tmp_path / "data"
    startup.draw(root, 120)
    dataset = VocDataset.open(root)
    ids = split_ids(dataset, "train")
    assert len(ids) == 120
    from_table = read_tags(dataset, ids, "csv")
    (root / "Annotations.hidden").rename(root / "Annotations")
    from_xml = read_tags(dataset, ids, "xml")
    for image_id in ids[45:60]:
        np.testing.assert_array_equal(from_table[image_id], from_xml[image_id])
        shown = set(np.unique(read_mask(dataset.mask_path(image_id))).tolist()) - {0}
        assert shown == set((np.flatnonzero(from_xml[image_id]) + 1).tolist())
