"""Pictures on disk: opened with care, read, measured, and written with VOC's palette."""

from misc.images.palette import voc_palette, write_palette_png
from misc.images.pictures import DECODING_ERRORS, JPEG_OR_PNG, PNG_ONLY, open_picture, open_regular
from misc.images.reading import image_size, read_image, read_mask

__all__ = [
    "DECODING_ERRORS",
    "JPEG_OR_PNG",
    "PNG_ONLY",
    "image_size",
    "open_picture",
    "open_regular",
    "read_image",
    "read_mask",
    "voc_palette",
    "write_palette_png",
]
