import numpy as np
import pytest
from PIL import Image

from misc.transforms import IMAGENET_MEAN, IMAGENET_STD, image_pyramid, normalize, rescale
from tests.helpers.paths import GOLDEN


def test_normalize_is_the_formula_rounded_once() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    x = normalize(image)
    expected = (image / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, expected.transpose(2, 0, 1).astype(np.float32))


def test_the_pyramid_is_the_recorded_one() -> None:
    with np.load(GOLDEN / "decoded_voc.npz") as decoded:
        image = decoded["2007_000001/img"]
    recorded = np.load(GOLDEN / "g5_make_cam" / "pyramid_2007_000001.npz")
    levels = image_pyramid(image, (1.0, 0.5))
    for level, name in zip(levels, ("input_1.0", "input_0.5"), strict=True):
        np.testing.assert_array_equal(level[0], recorded[name])
        np.testing.assert_array_equal(level[1], recorded[name][:, :, ::-1])


@pytest.mark.parametrize(("side", "scaled"), [(169, 84), (281, 140), (3, 2), (1, 1)])
def test_half_pixels_round_to_the_even_number(side: int, scaled: int) -> None:
    image = np.zeros((side, 4, 3), dtype=np.uint8)
    assert rescale(image, 0.5).shape == (scaled, 2, 3)


def test_masks_are_rescaled_without_new_values() -> None:
    mask = np.array([[0, 255], [7, 0]], dtype=np.uint8)
    doubled = rescale(mask, 2.0, Image.Resampling.NEAREST)
    np.testing.assert_array_equal(doubled, mask.repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize("scale", [0.5, 1.3, 2.0])
@pytest.mark.parametrize("how", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
def test_images_are_resized_as_pillow_does(scale: float, how: Image.Resampling) -> None:
    image = np.random.default_rng(1).integers(0, 256, (11, 17, 3), dtype=np.uint8)
    size = round(17 * scale), round(11 * scale)
    expected = np.asarray(Image.fromarray(image).resize(size, how))
    np.testing.assert_array_equal(rescale(image, scale, how), expected)


def test_images_are_resized_bicubically_unless_told_otherwise() -> None:
    image = np.random.default_rng(1).integers(0, 256, (11, 17, 3), dtype=np.uint8)
    bicubic = np.asarray(Image.fromarray(image).resize((8, 6), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(rescale(image, 0.5), bicubic)
    (level,) = image_pyramid(image, (0.5,))
    np.testing.assert_array_equal(level[0], normalize(bicubic))
