"""Pickles made by hand, opcode by opcode, for files that numpy would not write."""

import io

import numpy as np

HEAD = b"\x80\x04"
F4 = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4\x89\x88tR"


def as_npy(pickled: bytes) -> bytes:
    """A .npy file around the pickle of a 0-d array of objects."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    return header.getvalue() + pickled


def array_pickle(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    """A dict of one array with any claims, as np.save boxes it."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
    array += b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"
    return boxed_pickle(b"}(K\x01" + array + b"u")


def boxed_pickle(content: bytes) -> bytes:
    """The pickle of an array without dimensions that holds what the opcodes `content` make."""
    return HEAD + (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
        b"(K\x01)cnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tR(K\x03X\x01\x00\x00\x00|NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89](" + content + b"etb."
    )
