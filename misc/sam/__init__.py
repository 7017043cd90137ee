"""Regions that Segment Anything (SAM) finds, and pseudo masks refined by them."""

from misc.sam.refine import CLASS_SHARE, REGION_SHARE, Refinement, refine_mask
from misc.sam.regions import RegionFolder, files_of_regions, read_regions

__all__ = [
    "CLASS_SHARE",
    "REGION_SHARE",
    "Refinement",
    "RegionFolder",
    "files_of_regions",
    "read_regions",
    "refine_mask",
]
