from pathlib import Path

import numpy as np
import pytest

from voc12.files import VocDataset
from voc12.image_labels import read_tags
from voc12.lists import split_ids
from voc12.make_cls_labels import main


def test_the_file_holds_the_tags_of_every_image_once(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "cls_labels.npy"
    flags = ["--voc12_root", str(tiny_dataset), "--out", str(out)]
    assert main([*flags, "--splits", "train_aug", "train", "val"]) == 0
    dataset = VocDataset.open(tiny_dataset)
    ids = split_ids(dataset, "train") + split_ids(dataset, "val")
    content = np.load(out, allow_pickle=True).item()
    assert list(content) == ids
    expected = read_tags(dataset, ids)
    for image_id in ids:
        assert content[image_id].dtype == np.float32
        np.testing.assert_array_equal(content[image_id], expected[image_id])


@pytest.mark.parametrize("source", ["xml", "masks"])
def test_the_file_can_be_given_as_source_of_tags(
    tiny_dataset: Path, tmp_path: Path, source: str
) -> None:
    out = tmp_path / "cls_labels.npy"
    flags = ["--voc12_root", str(tiny_dataset), "--out", str(out), "--tags_from", source]
    assert main([*flags, "--splits", "val"]) == 0
    dataset = VocDataset.open(tiny_dataset)
    ids = split_ids(dataset, "val")
    from_file, direct = read_tags(dataset, ids, str(out)), read_tags(dataset, ids, source)
    for image_id in ids:
        np.testing.assert_array_equal(from_file[image_id], direct[image_id])


def test_a_missing_list_ends_with_status_two_and_no_file(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cls_labels.npy"
    arguments = ["--voc12_root", str(tiny_dataset), "--out", str(out), "--splits", "test"]
    assert main(arguments) == 2
    assert "No list" in capsys.readouterr().err
    assert not out.exists()


def test_a_file_that_holds_something_else_is_not_replaced(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    flags = ["--voc12_root", str(tiny_dataset)]
    out = tmp_path / "cls_labels.npy"
    assert main(flags) == main(flags) == 0, "the same content is no loss"
    out.write_bytes(b"mine")
    for named in ([], ["--out", str(out)]):
        assert main([*flags, *named]) == 2
        assert (
            "cls_labels.npy exists already and holds something else. Choose a file"
            in capsys.readouterr().err
        )
        assert out.read_bytes() == b"mine"


def test_a_file_that_cannot_be_written_is_the_users_to_mend(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "cls_labels.npy"
    assert main(["--voc12_root", str(tiny_dataset), "--out", str(out)]) == 2
    assert "and its permissions" in capsys.readouterr().err
