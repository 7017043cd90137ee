"""Class activation maps in files: every dialect in, one format out."""

from misc.cam_files.files import CAM_FORMATS, CamFolder, read_cams, read_tags_file, write_irn
from misc.cam_files.irn import (
    CAM_DTYPES,
    MAX_EPSILON,
    Cams,
    cam_file_bytes,
    padded_size,
    stride4_size,
)

__all__ = [
    "CAM_DTYPES",
    "CAM_FORMATS",
    "MAX_EPSILON",
    "CamFolder",
    "Cams",
    "cam_file_bytes",
    "padded_size",
    "read_cams",
    "read_tags_file",
    "stride4_size",
    "write_irn",
]
