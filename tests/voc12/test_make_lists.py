from pathlib import Path

import pytest

from voc12.files import VocDataset
from voc12.lists import shipped_list, split_ids
from voc12.make_lists import main


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("ImageSets/Segmentation", "SegmentationClassAug"):
        (tmp_path / folder).mkdir(parents=True)
    for image_id in ("c", "a", "v 1"):
        (tmp_path / "SegmentationClassAug" / f"{image_id}.png").touch()
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("v 1\n")
    return tmp_path


def test_the_list_becomes_the_datasets_train_aug(root: Path) -> None:
    assert main(["--voc12_root", str(root)]) == 0
    written = root / "ImageSets" / "Segmentation" / "train_aug.txt"
    assert written.read_text() == "a\nc\n"
    assert split_ids(VocDataset.open(root), "train_aug") == ["a", "c"]


def test_an_existing_list_is_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    existing = root / "ImageSets" / "Segmentation" / "train_aug.txt"
    existing.write_text("a\n")
    assert main(["--voc12_root", str(root)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["--voc12_root", str(root), "--out", str(existing)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert existing.read_text() == "a\n"
    assert main(["--voc12_root", str(root), "--out", str(root / "other.txt")]) == 0
    assert (root / "other.txt").read_text() == "a\nc\n"


def test_a_dataset_without_masks_to_list_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--voc12_root", str(tmp_path)]) == 2
    assert "SegmentationClassAug holds no masks" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_the_users_to_mend(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "file").touch()
    assert main(["--voc12_root", str(root), "--out", str(root / "file" / "list.txt")]) == 2
    assert "and its permissions" in capsys.readouterr().err


def test_voc_2012_gets_its_own_list_also_without_masks(tmp_path: Path) -> None:
    folder = tmp_path / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text(shipped_list("train").read_text())
    assert main(["--data_root", str(tmp_path)]) == 0
    assert (folder / "train_aug.txt").read_text() == shipped_list("train_aug").read_text()
