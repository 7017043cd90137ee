"""Files of a dataset that users write: read whole, and only where they are regular files."""

import os
from pathlib import Path

from misc.errors import UserError
from misc.images import open_regular


def is_there(path: Path) -> bool:
    """True if something has that name, be it a link that leads nowhere."""
    return os.path.lexists(path)


def read_regular(path: Path) -> bytes:
    """The content of a regular file; a pipe or a device is refused instead of waited for.

    Raises:
        FileNotFoundError: if nothing has that name.
        UserError: if it is something else, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        if not path.is_symlink():
            raise
        target = os.readlink(path)
        raise UserError(
            f"{path} is a link to {target}, which is not there. Mend the link, or remove it."
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{path} cannot be read ({reason}). Put a file there that can, or remove it."
        ) from None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; a byte order mark is dropped.

    Raises:
        FileNotFoundError: if nothing has that name.
        UserError: if it is not UTF-8, or cannot be read.
    """
    try:
        return read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from None


def read_lines(path: Path) -> list[str]:
    """Lines of such a file, stripped, empty ones left out.

    Raises:
        FileNotFoundError: if nothing has that name.
        UserError: if it is not UTF-8, or cannot be read.
    """
    lines = read_text(path).replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]
