"""Class activation maps in files: every dialect in, one format out."""

from misc.cam_files.dialects import SCORE_FIELDS
from misc.cam_files.files import CAM_FORMATS, CamFolder, read_cams, read_tags_file, write_irn
from misc.cam_files.irn import (
    CAM_DTYPES,
    MAX_EPSILON,
    Cams,
    cam_file_bytes,
    padded_size,
    stride4_size,
)
from misc.cam_files.numbering import CAM_IDS, CONTIGUOUS, class_id_of, compare_with_tags

__all__ = [
    "CAM_DTYPES",
    "CAM_FORMATS",
    "CAM_IDS",
    "CONTIGUOUS",
    "MAX_EPSILON",
    "SCORE_FIELDS",
    "CamFolder",
    "Cams",
    "cam_file_bytes",
    "class_id_of",
    "compare_with_tags",
    "padded_size",
    "read_cams",
    "read_tags_file",
    "stride4_size",
    "write_irn",
]
