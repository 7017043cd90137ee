"""Training crops of a segmentation network, and the masks it learns from."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from misc.errors import UserError
from misc.mask_codes import VOID
from misc.training import Draw
from misc.transforms import random_crop_box, rescale, resize
from voc12.files import VocDataset, read_image, read_mask
from voc12.lists import CRF_SUFFIX

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


def mask_paths(folder: Path, ids: Sequence[str]) -> dict[str, Path]:
    """Where the masks of `ids` lie in a folder of `<id>_crf.png` or of `<id>.png`.

    The masks after the CRF are taken where all are there, else the plain ones where all of these
    are: two kinds are never mixed.

    Raises:
        UserError: if neither is there for all of `ids`.
    """
    kinds = {suffix: [folder / f"{i}{suffix}.png" for i in ids] for suffix in (CRF_SUFFIX, "")}
    missing = {}
    for suffix, paths in kinds.items():
        missing[suffix] = [path for path in paths if not path.is_file()]
        if not missing[suffix]:
            return dict(zip(ids, paths, strict=True))
    nearest = min(missing.values(), key=len)
    raise UserError(f"{folder} lacks the masks of {len(nearest)} images, {nearest[0]} for one.")


class SegmentationCrops(Dataset[dict[str, torch.Tensor]]):
    """Crops by draw: image uint8 (3,S,S), box int (4,), mask uint8 (S,S), 255 = ignored."""

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

        Around images smaller than the crop, the mask says ignored.
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
        rng = np.random.default_rng([self.seed, draw[0], draw[1]])
        image = read_image(self.dataset.image_path(image_id))
        mask = self._read_mask(image_id, image.shape[:2])
        image = rescale(image, self.scales[rng.integers(len(self.scales))], BILINEAR)
        mask = resize(mask, (image.shape[0], image.shape[1]), NEAREST)
        box = random_crop_box(image.shape, self.crop_size, rng)
        if rng.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        crop = box.cut(image, 0).transpose(2, 0, 1)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(crop)),
            "box": torch.tensor(box.inside),
            "mask": torch.from_numpy(box.cut(mask, VOID)),
        }

    def _read_mask(self, image_id: str, size: tuple[int, ...]) -> np.ndarray:
        path = self.mask_path(image_id)
        mask = read_mask(path)
        largest = int(mask[mask != VOID].max(initial=0))
        if mask.shape != size:
            raise UserError(f"{path} is {mask.shape}, but its image {size}. Make it again.")
        if largest > self.dataset.num_classes:
            raise UserError(
                f"{path} holds class {largest}, but the dataset has {self.dataset.num_classes} "
                "classes. Check classes.txt and the folder of masks."
            )
        return mask
