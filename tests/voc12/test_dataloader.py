from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from misc.images import read_image
from misc.transforms import normalize, normalize_crops, random_crop_box, top_left_crop_box
from voc12.dataloader import BoundaryCrops, ClassificationCrops, ImagePyramids, random_resize_long
from voc12.files import VocDataset

HEIGHT, WIDTH = 60, 80
MARKER = (slice(8, 32), slice(12, 28))  # off centre, so that a flip shows
IDS = ["a", "b"]
TAGS = {"a": np.array([1, 0], np.float32), "b": np.array([0, 1], np.float32)}
DRAWS = [(epoch, 0) for epoch in range(12)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VocDataset:
    """Two equal images, white with a dark marker that is also in the codes and the saliency."""
    root = tmp_path_factory.mktemp("voc")
    image = np.full((HEIGHT, WIDTH, 3), 250, np.uint8)
    codes, saliency = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    image[MARKER], codes[MARKER], saliency[MARKER] = 0, 50, 200
    saliency[50:, 70:] = 20  # a tenth of the maximum
    for image_id in IDS:
        for folder, array in (("JPEGImages", image), ("codes", codes), ("Sal", saliency)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{image_id}.png")
    return VocDataset.open(root, root / "Sal")


def boundary_crops(
    dataset: VocDataset, crop_size: int = 128, sal_bg_thres: float = 0.0, seed: int = 5
) -> BoundaryCrops:
    codes = dataset.root / "codes"
    return BoundaryCrops(dataset, IDS, lambda i: codes / f"{i}.png", crop_size, sal_bg_thres, seed)


def classification_crops(dataset: VocDataset, crop_size: int, **changes: Any) -> Any:
    options: dict[str, Any] = {"resize_long": (40, 100), "seed": 5} | changes
    return ClassificationCrops(dataset, IDS, TAGS, crop_size, **options)


def inside_of(sample: dict[str, torch.Tensor]) -> np.ndarray:
    size = sample["image"].shape[-1]
    top, bottom, left, right = sample["box"].tolist()
    inside = np.zeros((size, size), bool)
    inside[top:bottom, left:right] = True
    return inside


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("crop_size", [128, 48])
def test_image_codes_and_saliency_stay_aligned(dataset: VocDataset, crop_size: int) -> None:
    crops = boundary_crops(dataset, crop_size)
    for draw in DRAWS:
        sample = crops[draw]
        inside = inside_of(sample)
        marker = (sample["image"].numpy()[0] < 125) & inside
        # The image is resized bicubically and the maps to the nearest pixel: a pixel may differ.
        least = ndimage.binary_erosion(marker, iterations=1, border_value=1)
        most = ndimage.binary_dilation(marker, iterations=1)
        salient = sample["saliency"].numpy() > 0.5
        assert (least <= salient).all()
        assert (salient <= most).all()
        coded = sample["codes"].numpy() == 50
        assert (least[2::4, 2::4] <= coded).all()
        assert (coded <= most[2::4, 2::4]).all()


def test_flipped_and_unflipped_small_and_large_crops_occur(dataset: VocDataset) -> None:
    samples = [boundary_crops(dataset)[draw] for draw in DRAWS]
    heights = [sample["box"][1] - sample["box"][0] for sample in samples]
    more = [boundary_crops(dataset)[epoch, 0]["box"] for epoch in range(12, 40)]
    heights += [box[1] - box[0] for box in more]
    assert HEIGHT * 0.5 <= min(heights) < HEIGHT * 0.6
    assert HEIGHT * 1.4 < max(heights) <= HEIGHT * 1.5
    on_the_left = set()
    for sample in samples:
        left, right = sample["box"][2:].tolist()
        columns = np.flatnonzero((sample["saliency"].numpy() > 0.5).any(axis=0))
        on_the_left.add(bool(columns.mean() < (left + right) / 2))
    assert on_the_left == {True, False}


def test_padding_is_zero_in_image_and_saliency_and_ignore_in_codes(dataset: VocDataset) -> None:
    sample = boundary_crops(dataset)[0, 0]
    inside = inside_of(sample)
    x = normalize_crops(sample["image"][None], sample["box"][None])[0].numpy()
    assert (x[:, ~inside] == 0).all()
    assert (x[:, inside] != 0).all()
    zero = torch.tensor([0.5, -1, 2]).view(3, 1, 1)
    x = normalize_crops(sample["image"][None], sample["box"][None], zero)[0].numpy()
    assert (x[:, ~inside] == zero[:, 0].numpy()).all()
    assert (sample["saliency"].numpy()[~inside] == 0).all()
    codes = sample["codes"].numpy()
    assert (codes[~inside[2::4, 2::4]] == 255).all()
    assert set(np.unique(codes[inside[2::4, 2::4]])) == {0, 50}


@pytest.mark.parametrize("crop_size", [128, 126])
def test_boundary_samples_have_the_types_and_sizes_of_the_loss(
    dataset: VocDataset, crop_size: int
) -> None:
    sample = boundary_crops(dataset, crop_size)[0, 0]
    found = {name: (value.dtype, tuple(value.shape)) for name, value in sample.items()}
    assert found == {
        "image": (torch.uint8, (3, crop_size, crop_size)),
        "box": (torch.int64, (4,)),
        "codes": (torch.uint8, (32, 32)),
        "saliency": (torch.float32, (crop_size, crop_size)),
    }


@pytest.mark.parametrize(("threshold", "faint"), [(0.0, True), (0.1, False)])
def test_saliency_up_to_the_threshold_of_its_maximum_is_none(
    dataset: VocDataset, threshold: float, faint: bool
) -> None:
    values = boundary_crops(dataset, sal_bg_thres=threshold)[0, 0]["saliency"].unique()
    expected = [0, 0.1, 1] if faint else [0, 1]
    assert values.tolist() == pytest.approx(expected)


def test_without_saliency_maps_none_are_read(dataset: VocDataset) -> None:
    bare = VocDataset(dataset.root, dataset.class_names, None)
    with_saliency, without = boundary_crops(dataset)[0, 0], boundary_crops(bare)[0, 0]
    assert "saliency" not in without
    assert torch.equal(with_saliency["image"], without["image"])


@pytest.mark.parametrize("make", [boundary_crops, lambda d: classification_crops(d, 64)])
def test_a_crop_depends_on_seed_epoch_and_image_alone(dataset: VocDataset, make: Any) -> None:
    first, second = make(dataset), make(dataset)
    expected = first[1, 1]
    _ = [second[draw] for draw in DRAWS[:3]]
    np.random.seed(1)  # noqa: NPY002 - the global generators must play no part
    torch.manual_seed(1)
    assert_same(second[1, 1], expected)
    for other in (first[2, 1], first[1, 0]):
        assert not torch.equal(other["image"], expected["image"])
    second.seed = 6
    assert not torch.equal(second[1, 1]["image"], expected["image"])


def test_classification_crops_carry_the_tags_of_their_image(dataset: VocDataset) -> None:
    crops = classification_crops(dataset, 64)
    assert crops[0, 1]["tags"].tolist() == [0, 1]
    assert crops[0, 0]["image"].dtype == torch.uint8
    assert crops[0, 0]["image"].shape == (3, 64, 64)


def test_images_are_flipped_half_of_the_time(dataset: VocDataset) -> None:
    crops = classification_crops(dataset, 128, resize_long=(WIDTH, WIDTH))
    flipped = 0
    for epoch in range(40):
        sample = crops[epoch, 0]
        top, bottom, left, right = sample["box"].tolist()
        image = sample["image"][0, top:bottom, left:right].numpy()
        straight = bool((image[MARKER] == 0).all())
        assert straight or (image[:, ::-1][MARKER] == 0).all()
        flipped += not straight
    assert 10 <= flipped <= 30


def test_the_long_side_takes_every_whole_number_of_its_range() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((30, 40, 3), np.uint8)
    shapes = [random_resize_long(image, (40.0, 44.0), rng).shape for _ in range(100)]
    assert {width for _, width, _ in shapes} == {40, 41, 42, 43, 44}
    assert all(abs(height - 0.75 * width) <= 0.5 for height, width, _ in shapes)
    assert random_resize_long(image.transpose(1, 0, 2), (20, 20), rng).shape == (20, 15, 3)


@pytest.mark.parametrize("crop_size", [50, 70, 100])
def test_without_a_resize_range_the_crop_is_the_top_left_corner(
    dataset: VocDataset, crop_size: int
) -> None:
    sample = classification_crops(dataset, crop_size, resize_long=None)[0, 0]
    image = read_image(dataset.image_path("a"))[:crop_size, :crop_size]
    height, width = image.shape[:2]
    assert sample["box"].tolist() == [0, height, 0, width]
    np.testing.assert_array_equal(
        sample["image"][:, :height, :width].numpy(), image.transpose(2, 0, 1)
    )


def test_crops_are_normalised_as_images_are() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    boxes = [random_crop_box(image.shape, 24, rng), top_left_crop_box(image.shape, 24)]
    crops = np.stack([box.cut(image, 0).transpose(2, 0, 1) for box in boxes])
    x = normalize_crops(torch.from_numpy(crops), torch.tensor([box.inside for box in boxes]))
    whole = normalize(image).transpose(1, 2, 0)
    expected = [box.cut(whole, 0).transpose(2, 0, 1) for box in boxes]
    np.testing.assert_allclose(x.numpy(), np.stack(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(20, 20), (9, 33), (16, 16)])
def test_random_crops_reach_every_place_and_never_beyond(shape: tuple[int, int]) -> None:
    size, rng = 16, np.random.default_rng(0)
    array = np.arange(1, shape[0] * shape[1] + 1).reshape(shape)
    places = set()
    for _ in range(400):
        box = random_crop_box(shape, size, rng)
        crop = box.cut(array, 0)
        top, bottom, left, right = box.inside
        assert (crop[top:bottom, left:right] > 0).all()
        assert (crop > 0).sum() == min(shape[0], size) * min(shape[1], size)
        places.add((box.source[0], box.target[0]))
    assert len(places) == abs(shape[0] - size) + 1


def test_pyramids_hold_the_image_and_its_mirror_image_at_every_scale(dataset: VocDataset) -> None:
    item = ImagePyramids(dataset, IDS, (1.0, 0.5))[1]
    assert item["image_id"] == "b"
    assert item["image"].shape == (HEIGHT, WIDTH, 3)
    assert [tuple(level.shape) for level in item["levels"]] == [(2, 3, 60, 80), (2, 3, 30, 40)]
    for straight, mirrored in item["levels"]:
        assert torch.equal(straight.flip(2), mirrored)
    np.testing.assert_array_equal(item["levels"][0][0].numpy(), normalize(item["image"]))


def test_photographs_of_the_classifier_are_resized_bicubically() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    resized = random_resize_long(image, (45, 45), np.random.default_rng(0))
    expected = np.asarray(Image.fromarray(image).resize((45, 30), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resized, expected)
