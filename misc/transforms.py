"""Rescale, flip, crop and normalise, jointly over an image and the maps that belong to it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB uint8 (H,W,3) to float32 (3,H,W) in the statistics that ImageNet weights expect."""
    levels = np.arange(256)[:, None] / 255.0
    # Only 256 values a channel occur: computed in float64, rounded once, then looked up.
    table = ((levels - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32)
    return np.stack([table[:, channel][image[:, :, channel]] for channel in range(3)])


def rescale(
    image: NDArray[np.uint8], scale: float, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> NDArray[np.uint8]:
    """Resize (H,W) or (H,W,3) to round(H * scale) x round(W * scale), halves to the even number."""
    height, width = image.shape[:2]
    return resize(image, (round(height * scale), round(width * scale)), resample)


def resize(array: NDArray[Any], size: tuple[int, int], resample: Image.Resampling) -> NDArray[Any]:
    """Resize uint8 (H,W) or (H,W,3), or float32 (H,W), to `size` (h,w), at least 1x1."""
    height, width = max(1, size[0]), max(1, size[1])
    if array.shape[:2] == (height, width):
        return array
    return np.asarray(Image.fromarray(array).resize((width, height), resample))


def resize_linear(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize uint8 (H,W,3) to float32 `size` (h,w,3), bilinearly between the four nearest pixels.

    Unlike Pillow's, it takes no wider support where it shrinks, and does not round to whole grey
    levels: cv2's `INTER_LINEAR` on float32.
    """
    pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


def image_pyramid(image: NDArray[np.uint8], scales: Sequence[float]) -> list[NDArray[np.float32]]:
    """RGB uint8 (H,W,3) to a normalised pair (2,3,h,w) per scale: image and mirror image."""
    levels = [normalize(rescale(image, scale)) for scale in scales]
    return [np.stack([level, level[:, :, ::-1]]) for level in levels]


def normalize_crops(
    crops: torch.Tensor, boxes: torch.Tensor, outside: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """A batch of padded crops in the statistics that ImageNet weights expect, on their device.

    Args:
        crops: uint8, or float32 of 0..255, (B,3,S,S).
        boxes: int (B,4), top, bottom, left, right of the image inside its crop.
        outside: value outside the boxes, or one per channel (3,1,1), normalised.

    Returns:
        float32 (B,3,S,S), exactly `outside` outside the boxes.
    """
    mean, std = _imagenet_statistics(crops.device)
    top, bottom, left, right = boxes.to(crops.device, non_blocking=not crops.is_cpu).T[..., None]
    rows = torch.arange(crops.shape[-2], device=crops.device)
    columns = torch.arange(crops.shape[-1], device=crops.device)
    inside_rows = (rows >= top) & (rows < bottom)
    inside_columns = (columns >= left) & (columns < right)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return torch.where(inside, (crops / 255.0 - mean) / std, outside)


@functools.cache
def _imagenet_statistics(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (1,3,1,1) on `device`, sent there once."""
    mean, std = (torch.tensor(each, device=device) for each in (IMAGENET_MEAN, IMAGENET_STD))
    return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)


@dataclass(frozen=True)
class CropBox:
    """Where a square crop takes from (`source`) and puts to (`target`), as y, x, and how much."""

    size: int
    source: tuple[int, int]
    target: tuple[int, int]
    extent: tuple[int, int]

    @property
    def inside(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right of the image inside the crop."""
        (y, x), (height, width) = self.target, self.extent
        return y, y + height, x, x + width

    @property
    def inside_mirrored(self) -> tuple[int, int, int, int]:
        """`inside` of the mirrored crop."""
        top, bottom, left, right = self.inside
        return top, bottom, self.size - right, self.size - left

    def cut(self, array: NDArray[Any], fill: int) -> NDArray[Any]:
        """The crop (size,size,...) of `array`, with `fill` where the array does not reach."""
        crop = np.full((self.size, self.size, *array.shape[2:]), fill, array.dtype)
        (y, x), (height, width) = self.source, self.extent
        top, bottom, left, right = self.inside
        crop[top:bottom, left:right] = array[y : y + height, x : x + width]
        return crop


def random_crop_box(
    shape: tuple[int, ...], size: int, rng: np.random.Generator, *, pads_end: bool = False
) -> CropBox:
    """A square of side `size` at a random place of an image, or around it where it is smaller.

    With `pads_end` a smaller image lies at the top left of the square, not anywhere inside.
    """
    source, target, extent = [], [], []
    for length in shape[:2]:
        room = max(length - size, 0) if pads_end else length - size
        offset = int(rng.integers(0, abs(room) + 1))
        source.append(offset if room > 0 else 0)
        target.append(0 if room > 0 else offset)
        extent.append(min(length, size))
    return CropBox(size, (source[0], source[1]), (target[0], target[1]), (extent[0], extent[1]))


def top_left_crop_box(shape: tuple[int, ...], size: int) -> CropBox:
    """The square of side `size` at the image's top left corner."""
    return CropBox(size, (0, 0), (0, 0), (min(shape[0], size), min(shape[1], size)))
