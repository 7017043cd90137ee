from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from misc.errors import UserError
from misc.images import write_palette_png
from voc12.dataloader import SegmentationCrops
from voc12.files import VocDataset, mask_paths

CLASSES = ("cat", "dog")


@pytest.fixture
def dataset(tmp_path: Path) -> VocDataset:
    """Two images whose red channel is their mask, 20 rows by 30 columns."""
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for index, image_id in enumerate(("a", "b")):
        mask = np.full((20, 30), index, np.uint8)
        mask[4:16, 6:18] = 2
        mask[0] = 255
        image = np.stack([mask, np.zeros_like(mask), np.full_like(mask, 9)], axis=-1)
        iio.imwrite(root / "JPEGImages" / f"{image_id}.png", image)
        write_palette_png(root / "SegmentationClass" / f"{image_id}.png", mask)
    return VocDataset(root, CLASSES)


def crops_of(dataset: VocDataset, size: int, scales: tuple[float, ...]) -> SegmentationCrops:
    return SegmentationCrops(dataset, ["a", "b"], dataset.mask_path, size, scales, 4)


def test_image_and_mask_are_cut_and_mirrored_alike(dataset: VocDataset) -> None:
    crops = crops_of(dataset, 12, (1.0,))
    for epoch in range(20):
        sample = crops[epoch, epoch % 2]
        assert sample["image"].shape == (3, 12, 12)
        assert sample["box"].tolist() == [0, 12, 0, 12]
        assert torch.equal(sample["image"][0], sample["mask"])


def test_about_half_is_mirrored_and_every_scale_occurs(dataset: VocDataset) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[:, :10] = 1
    write_palette_png(dataset.mask_path("a"), mask)
    crops = crops_of(dataset, 64, (0.5, 1.0, 1.5))
    drawn = [crops[epoch, 0] for epoch in range(60)]
    heights = [sample["box"][1] - sample["box"][0] for sample in drawn]
    assert {int(height) for height in heights} == {10, 20, 30}
    mirrored = [bool(s["mask"][0, s["box"][2]] == 0) for s in drawn]
    assert 15 < sum(mirrored) < 45


def test_beside_small_images_nothing_is_learnt(dataset: VocDataset) -> None:
    crops = crops_of(dataset, 40, (1.0,))
    boxes = set()
    for epoch in range(20):
        sample = crops[epoch, 1]
        top, bottom, left, right = box = tuple(sample["box"].tolist())
        outside = torch.ones(40, 40, dtype=torch.bool)
        outside[top:bottom, left:right] = False
        assert sample["mask"][outside].eq(255).all()
        assert sample["image"][:, outside].eq(0).all()
        assert sample["image"][2, top:bottom, left:right].eq(9).all()
        assert sample["mask"].eq(2).sum() == 12 * 12
        boxes.add(box)
    # Padded at the bottom and the right, then mirrored with the padding.
    assert boxes == {(0, 20, 0, 30), (0, 20, 10, 40)}


def test_a_draw_is_always_the_same_crop(dataset: VocDataset) -> None:
    first, second = (crops_of(dataset, 16, (0.5, 1.5))[3, 1] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_masks_that_cannot_be_learnt_from_are_named(dataset: VocDataset) -> None:
    write_palette_png(dataset.mask_path("a"), np.full((20, 30), 3, np.uint8))
    write_palette_png(dataset.mask_path("b"), np.zeros((30, 20), np.uint8))
    with pytest.raises(UserError, match=r"a\.png holds class 3, but the dataset has 2"):
        crops_of(dataset, 16, (1.0,))[0, 0]
    with pytest.raises(UserError, match=r"b\.png is \(30, 20\), but its image is \(20, 30\)"):
        crops_of(dataset, 16, (1.0,))[0, 1]


def test_masks_after_the_crf_come_first_and_kinds_are_not_mixed(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "a_crf.png"):
        (tmp_path / name).touch()
    assert mask_paths(tmp_path, ["a"]) == {"a": tmp_path / "a_crf.png"}
    assert mask_paths(tmp_path, ["a", "b"]) == {i: tmp_path / f"{i}.png" for i in ("a", "b")}
    with pytest.raises(UserError, match=r"lacks the masks of 1 image \(.*c\.png\)"):
        mask_paths(tmp_path, ["a", "b", "c"])


def test_images_are_rescaled_bilinearly_and_masks_keep_their_ids(dataset: VocDataset) -> None:
    """Worked out by hand: 5 columns at scale 0.75 are 3, at 1/3, 2 and 11/3."""
    ramp = np.tile(np.array([0, 30, 60, 90, 240], np.uint8)[None, :, None], (5, 1, 3))
    ids = np.tile(np.array([0, 1, 2, 0, 255], np.uint8), (5, 1))
    iio.imwrite(dataset.image_path("a"), ramp)
    write_palette_png(dataset.mask_path("a"), ids)
    crops = crops_of(dataset, 3, (0.75,))
    values, classes = [], []
    for epoch in range(8):
        sample = crops[epoch, 0]
        assert sample["box"].tolist() == [0, 3, 0, 3]
        assert sample["image"].dtype == torch.float32
        torch.testing.assert_close(sample["image"], sample["image"][:1, :1].expand(3, 3, 3))
        values.append(sample["image"][0, 0].tolist())
        classes.append(sample["mask"][0].tolist())
    straight, of_mask = [10, 60, 190], [0, 2, 255]  # 190 = 90 + 2/3 of 150
    for found, line in zip(values, classes, strict=True):
        assert found == pytest.approx(straight) or found == pytest.approx(straight[::-1])
        assert line == (of_mask if found[0] < found[2] else of_mask[::-1])


def test_every_seed_has_its_own_crops(dataset: VocDataset) -> None:
    of_seed = [
        SegmentationCrops(dataset, ["a", "b"], dataset.mask_path, 9, (0.5, 1.0, 1.5), seed)
        for seed in (4, 5)
    ]
    for name in ("image", "box", "mask"):
        drawn = [[crops[epoch, 0][name] for epoch in range(8)] for crops in of_seed]
        same = [torch.equal(one, other) for one, other in zip(*drawn, strict=True)]
        assert name == "box" or not all(same), name
