"""Open the pictures that users bring: regular files of the kinds that belong there."""

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

PNG_ONLY = ("PNG",)
JPEG_OR_PNG = ("JPEG", "PNG")
# What Pillow raises for files that are damaged, whatever is wrong with them.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@contextmanager
def open_regular(path: str | Path, buffering: int = -1) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a pipe is refused instead of waited for.

    Raises:
        OSError: if it cannot be opened, or is something else.
    """
    with open(path, "rb", buffering=buffering, opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is not a regular file")
        yield file


def _open_at_once(path: str, flags: int) -> int:
    # Where a system lacks the flag (Windows), it lacks such pipes too.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def open_picture(path: str | Path, formats: tuple[str, ...] = JPEG_OR_PNG) -> Iterator[Image.Image]:
    """Open a picture with Pillow if it is of one of `formats`, whatever its name says.

    Pillow knows dozens of formats; some have long been without care, and one runs Ghostscript.

    Raises:
        One of DECODING_ERRORS: if it cannot be opened, is not a regular file or has another format.
    """
    with open_regular(path) as file:
        try:
            picture = Image.open(file, formats=formats)
        except UnidentifiedImageError:
            raise UnidentifiedImageError(f"it is not an intact {' or '.join(formats)}") from None
        with picture:
            yield picture
