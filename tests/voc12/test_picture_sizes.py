from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voc12.files import VocDataset
from voc12.picture_sizes import IMAGE, MASK, SALIENCY, PictureSizes, sizes_of


def save(path: Path, size: tuple[int, int]) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros(size, np.uint8)).save(path)
    return path


def test_a_sound_picture_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = PictureSizes(lambda image_id: save(tmp_path / f"{image_id}.png", (3, 5)))
    assert sizes["a"] == (3, 5)
    monkeypatch.setattr("voc12.picture_sizes.image_size", None)
    assert sizes["a"] == (3, 5)


def test_a_problem_is_told_in_words_until_it_is_mended(tmp_path: Path) -> None:
    sizes = PictureSizes(lambda image_id: tmp_path / f"{image_id}.png")
    assert sizes["a"] == f"{tmp_path}/a.png is missing."
    save(tmp_path / "a.png", (3, 5))
    assert sizes["a"] == (3, 5)


def test_a_dataset_has_photographs_saliency_and_masks(tmp_path: Path) -> None:
    dataset = VocDataset.open(tmp_path, tmp_path / "Sal")
    save(tmp_path / "JPEGImages" / "a.jpeg", (4, 6))
    save(tmp_path / "Sal" / "a.png", (5, 6))
    save(tmp_path / "SegmentationClass" / "a.png", (6, 6))
    assert [sizes_of(dataset, kind)["a"] for kind in (IMAGE, SALIENCY, MASK)] == [
        (4, 6), (5, 6), (6, 6),
    ]  # fmt: skip
    again = VocDataset.open(tmp_path, tmp_path / "Sal")
    assert sizes_of(again, IMAGE) is sizes_of(dataset, IMAGE)
