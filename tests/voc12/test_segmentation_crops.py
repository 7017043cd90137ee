from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

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
    mirrored = [bool(s["mask"][s["box"][0], s["box"][2]] == 0) for s in drawn]
    assert 15 < sum(mirrored) < 45


def test_around_small_images_nothing_is_learnt(dataset: VocDataset) -> None:
    sample = crops_of(dataset, 40, (1.0,))[0, 1]
    top, bottom, left, right = sample["box"].tolist()
    outside = torch.ones(40, 40, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert (bottom - top, right - left) == (20, 30)
    assert sample["mask"][outside].eq(255).all()
    assert sample["mask"].eq(2).sum() == 12 * 12


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
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    iio.imwrite(dataset.image_path("a"), noise)
    sample = crops_of(dataset, 48, (1.5,))[0, 0]
    top, bottom, left, right = sample["box"].tolist()
    image = sample["image"][:, top:bottom, left:right].permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(noise).resize((45, 30), Image.Resampling.BILINEAR))
    assert any(np.array_equal(image, each) for each in (expected, expected[:, ::-1]))
    assert set(sample["mask"].unique().tolist()) == {0, 2, 255}


def test_every_seed_has_its_own_crops(dataset: VocDataset) -> None:
    of_seed = [
        SegmentationCrops(dataset, ["a", "b"], dataset.mask_path, 9, (0.5, 1.0, 1.5), seed)
        for seed in (4, 5)
    ]
    for name in ("image", "box", "mask"):
        drawn = [[crops[epoch, 0][name] for epoch in range(8)] for crops in of_seed]
        same = [torch.equal(one, other) for one, other in zip(*drawn, strict=True)]
        assert name == "box" or not all(same), name
