"""Sizes of a dataset's pictures, each looked up once however many checks ask for it."""

import functools
from collections.abc import Callable
from pathlib import Path

from misc.errors import UserError
from misc.images import JPEG_OR_PNG, PNG_ONLY, image_size
from voc12.files import VocDataset

Size = tuple[int, int]

IMAGE, SALIENCY, MASK = "image", "saliency", "mask"


@functools.cache
def _one_of_equals(size: Size) -> Size:
    # Datasets of 100,000 images have a few hundred sizes: one tuple each is enough.
    return size


class PictureSizes:
    """(H,W) of one picture per image id, from its header, or what is wrong with it, in words."""

    def __init__(
        self, path_of: Callable[[str], Path], formats: tuple[str, ...] = JPEG_OR_PNG
    ) -> None:
        """Describe the pictures by paths and by what they may be; nothing is read yet."""
        self.path_of, self.formats = path_of, formats
        self._known: dict[str, Size] = {}

    def __getitem__(self, image_id: str) -> Size | str:
        found = self._known.get(image_id)
        if found is None:
            try:
                found = _one_of_equals(image_size(self.path_of(image_id), self.formats))
            except UserError as error:
                return str(error)  # not kept: it may be mended
            self._known[image_id] = found
        return found


@functools.cache
def sizes_of(dataset: VocDataset, kind: str) -> PictureSizes:
    """The sizes of the dataset's photographs, saliency maps or exact masks.

    They are kept as long as the process lives: sound files are not looked at again.
    """
    paths = {IMAGE: dataset.image_path, SALIENCY: dataset.saliency_path, MASK: dataset.mask_path}
    return PictureSizes(paths[kind], PNG_ONLY if kind == MASK else JPEG_OR_PNG)
