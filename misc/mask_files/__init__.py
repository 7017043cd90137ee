"""Pseudo masks as other methods publish them: scores of networks or colours in, class ids out."""

from misc.mask_files.reading import read_any_mask

__all__ = ["read_any_mask"]
