"""Photographs that stay where they are: links to them in a dataset's folder."""

import os
from pathlib import Path

from misc.errors import UserError
from misc.workspace import PARTIAL_SUFFIX


def link_image(
    source: Path, link: Path, *, within: Path | None = None, elsewhere: str = "another --out"
) -> None:
    """Make `link` a symbolic link to `source`, or a hard link where the system allows no other.

    Args:
        source: the photograph.
        link: its name in the dataset; a link that is there already is replaced.
        within: a folder that may be moved as a whole: inside it the link is relative.
        elsewhere: what else to choose, for messages.

    Raises:
        UserError: if neither can be made, or another file has the name.
    """
    if is_linked(source, link):
        return
    if link.exists() and not link.is_symlink():
        raise UserError(f"{link} exists and is a different file from {source}. Choose {elsewhere}.")
    partial = link.with_name(f".{link.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    partial.unlink(missing_ok=True)
    try:
        try:
            os.symlink(_target(source, link, within), partial)
        except (OSError, NotImplementedError):
            os.link(source, partial)
        os.replace(partial, link)
    except OSError as error:
        raise UserError(
            f"{link} cannot be linked to {source} ({error.strerror}). Choose {elsewhere} on a file "
            "system that supports links, or on that of the images."
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def _target(source: Path, link: Path, within: Path | None) -> str:
    real = os.path.realpath(source)
    if within is None or not Path(real).is_relative_to(within.resolve()):
        return str(source.absolute())
    return os.path.relpath(real, os.path.realpath(link.parent))


def is_linked(source: Path, link: Path) -> bool:
    """True if both names are those of one file that exists."""
    try:
        return os.path.samefile(source, link)
    except OSError:
        return False
