"""Untrusted files, read as data: nothing in them is ever executed."""

from misc.untrusted.archives import unpack_pngs
from misc.untrusted.names import TORCH_MAGIC, TORCH_PROTOCOL
from misc.untrusted.npy import open_data_file, open_npy, safe_load
from misc.untrusted.npz import open_npz
from misc.untrusted.stored_array import Span, StoredArray, printable

__all__ = [
    "TORCH_MAGIC",
    "TORCH_PROTOCOL",
    "Span",
    "StoredArray",
    "open_data_file",
    "open_npy",
    "open_npz",
    "printable",
    "safe_load",
    "unpack_pngs",
]
