"""Datasets that turn files into tensors: training crops and whole images at several scales.

A training crop depends on (seed, epoch, image) alone, never on the worker or process that draws
it, so that any number of workers, any number of processes and a resumed run see the same crops.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from misc.boundary_label import find_no_object
from misc.codes import VOID
from misc.errors import UserError
from misc.images import read_image, read_mask
from misc.saliency import read_saliency
from misc.training import Draw
from misc.transforms import (
    CropBox,
    image_pyramid,
    random_crop_box,
    rescale,
    resize,
    resize_linear,
    top_left_crop_box,
)
from voc12.files import VocDataset

BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
BOUNDARY_STRIDE = 4
RESCALE_RANGE = (0.5, 1.5)  # of the boundary network's training


def _rng(seed: int, draw: Draw) -> np.random.Generator:
    return np.random.default_rng([seed, draw[0], draw[1]])


def _to_tensor(crop: np.ndarray) -> torch.Tensor:
    """A crop (S,S,3) as (3,S,S) of the same type."""
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))


def random_resize_long(
    image: np.ndarray, bounds: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """`image` with its long side resized (bicubic) to a random whole number within `bounds`."""
    long_side = int(rng.integers(int(bounds[0]), int(bounds[1]) + 1))
    return rescale(image, long_side / max(image.shape[:2]), BICUBIC)


class ClassificationCrops(Dataset[dict[str, torch.Tensor]]):
    """Crops for the classifier, by draw: image uint8 (3,S,S), box int (4,), tags float32 (C,)."""

    def __init__(
        self,
        dataset: VocDataset,
        ids: Sequence[str],
        tags: dict[str, np.ndarray],
        crop_size: int,
        resize_long: Sequence[float] | None,
        seed: int,
    ) -> None:
        """Describe the crops; with `resize_long` None they are whole images cut at the top left."""
        self.dataset = dataset
        self.ids = list(ids)
        self.tags = tags
        self.crop_size = crop_size
        self.resize_long = resize_long
        self.seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        image_id = self.ids[draw[1]]
        image = read_image(self.dataset.image_path(image_id))
        if self.resize_long is None:
            box = top_left_crop_box(image.shape, self.crop_size)
        else:
            rng = _rng(self.seed, draw)
            image = random_resize_long(image, self.resize_long, rng)
            image = image[:, ::-1] if rng.random() < 0.5 else image
            box = random_crop_box(image.shape, self.crop_size, rng)
        return {
            "image": _to_tensor(box.cut(image, 0)),
            "box": torch.tensor(box.inside),
            "tags": torch.from_numpy(self.tags[image_id]),
        }


class BoundaryCrops(Dataset[dict[str, torch.Tensor]]):
    """Crops for the boundary network, by draw.

    image uint8 (3,S,S), box int (4,), codes uint8 (S/4,S/4), and, where the dataset has saliency
    maps, saliency float32 (S,S).
    """

    def __init__(
        self,
        dataset: VocDataset,
        ids: Sequence[str],
        boundary_label_path: Callable[[str], Path],
        crop_size: int,
        sal_bg_thres: float,
        seed: int,
    ) -> None:
        """Describe the crops; saliency up to `sal_bg_thres` of its maximum counts as none."""
        self.dataset = dataset
        self.ids = list(ids)
        self.boundary_label_path = boundary_label_path
        self.crop_size = crop_size
        self.sal_bg_thres = sal_bg_thres
        self.seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        image_id = self.ids[draw[1]]
        rng = _rng(self.seed, draw)
        image = read_image(self.dataset.image_path(image_id))
        scale = rng.uniform(*RESCALE_RANGE)
        flipped = rng.random() < 0.5
        image = rescale(image, scale, BICUBIC)
        box = random_crop_box(image.shape, self.crop_size, rng)

        def cut(array: np.ndarray, fill: int) -> np.ndarray:
            return _rescale_flip_cut(array, image.shape[:2], flipped, box, fill)

        codes = cut(read_mask(self.boundary_label_path(image_id)), VOID)
        small = -(-self.crop_size // BOUNDARY_STRIDE)
        sample = {
            "image": _to_tensor(box.cut(image[:, ::-1] if flipped else image, 0)),
            "box": torch.tensor(box.inside),
            "codes": torch.from_numpy(resize(codes, (small, small), NEAREST).copy()),
        }
        if self.dataset.saliency_root is not None:
            saliency = read_saliency(self.dataset.saliency_path(image_id))
            saliency, shows_no_object = find_no_object(saliency, self.sal_bg_thres)
            saliency = np.where(shows_no_object, 0, saliency).astype(np.float32)
            sample["saliency"] = torch.from_numpy(cut(saliency, 0))
        return sample


def _rescale_flip_cut(
    array: np.ndarray, size: tuple[int, ...], flipped: bool, box: CropBox, fill: int
) -> np.ndarray:
    resized = resize(array, (size[0], size[1]), NEAREST)
    return box.cut(resized[:, ::-1] if flipped else resized, fill)


class SegmentationCrops(Dataset[dict[str, torch.Tensor]]):
    """Crops by draw: image float32 0..255 (3,S,S), box int (4,), mask uint8 (S,S), 255 = ignored.

    Source: the augmentation of deeplab-pytorch. Sizes are rounded down; images are resized
    bilinearly between the nearest pixels, without rounding to grey levels; what is smaller than the
    crop is padded at the bottom and the right, and then mirrored with its padding.
    """

    def __init__(
        self,
        dataset: VocDataset,
        ids: Sequence[str],
        mask_path: Callable[[str], Path],
        crop_size: int,
        scales: Sequence[float],
        seed: int,
    ) -> None:
        """Describe the crops; each is of the image at one of `scales`, every second one mirrored.

        Beside images smaller than the crop, the mask says ignored.
        """
        self.dataset = dataset
        self.ids = list(ids)
        self.mask_path = mask_path
        self.crop_size = crop_size
        self.scales = tuple(scales)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        image_id = self.ids[draw[1]]
        rng = _rng(self.seed, draw)
        image = read_image(self.dataset.image_path(image_id))
        mask = self._read_mask(image_id, image.shape[:2])
        scale = self.scales[rng.integers(len(self.scales))]
        height, width = (max(1, int(side * scale)) for side in image.shape[:2])
        box = random_crop_box((height, width), self.crop_size, rng, pads_end=True)
        crop = box.cut(resize_linear(image, (height, width)), 0)
        mask = box.cut(resize(mask, (height, width), NEAREST), VOID)
        inside = box.inside
        if rng.random() < 0.5:
            crop, mask, inside = crop[:, ::-1], mask[:, ::-1], box.inside_mirrored
        return {
            "image": _to_tensor(crop),
            "box": torch.tensor(inside),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)),
        }

    def _read_mask(self, image_id: str, size: tuple[int, ...]) -> np.ndarray:
        path = self.mask_path(image_id)
        mask = read_mask(path)
        largest = int(mask[mask != VOID].max(initial=0))
        if mask.shape != size:
            raise UserError(f"{path} is {mask.shape}, but its image is {size}. Make it again.")
        if largest > self.dataset.num_classes:
            raise UserError(
                f"{path} holds class {largest}, but the dataset has {self.dataset.num_classes} "
                "classes. Check classes.txt and the folder of masks."
            )
        return mask


class ImagePyramids(Dataset[dict[str, Any]]):
    """Whole images for inference: image_id, size (H,W), levels [(2,3,h,w) float32 per scale]."""

    def __init__(
        self, dataset: VocDataset, ids: Sequence[str], scales: tuple[float, ...] = (1.0,)
    ) -> None:
        """Describe the images of `ids` at `scales`, each with its mirror image."""
        self.dataset = dataset
        self.ids = list(ids)
        self.scales = scales

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image_id = self.ids[index]
        image = read_image(self.dataset.image_path(image_id))
        return {
            "image_id": image_id,
            "image": image,
            "levels": [torch.from_numpy(level) for level in image_pyramid(image, self.scales)],
        }
