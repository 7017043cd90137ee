"""Unpack an untrusted ZIP of PNG files into one folder: all of it or nothing."""

import logging
import shutil
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from misc.errors import MENDABLE, UserError
from misc.log import progress

logger = logging.getLogger(__name__)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# PNGs are compressed already: a ZIP of them that grows much more is made to fill the disk.
MAX_GROWTH = 20
SPARE_BYTES = 1 << 20
# What PNGs are packed with; the readers of other methods raise errors of their own.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError)


def unpack_pngs(archive: Path, folder: Path) -> int:
    """Unpack the PNG files of `archive` into `folder`, which appears when all are there.

    Only the last part of a member's name counts, so that no member leaves the folder, and only its
    bytes, so that none becomes a link. Files of other kinds are skipped and logged.

    Args:
        archive: ZIP file; nothing in it is trusted.
        folder: folder to make.

    Returns:
        number of files.

    Raises:
        UserError: if the folder exists, the disk is too small, or the archive is damaged, holds no
            PNG or a name twice, or is a ZIP bomb. Nothing is left behind then.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already. Choose another folder, or delete it.")
    partial = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, archive)
            _check_sizes(members.values(), archive, partial)
            for name, member in progress(members.items(), desc=f"unpacking {folder.name}"):
                with opened.open(member) as source, open(partial / name, "xb") as target:
                    if source.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
                        raise UserError(f"{archive}: {member.filename} is not a PNG. Refused.")
                    target.write(PNG_SIGNATURE)
                    shutil.copyfileobj(source, target)
        partial.replace(folder)
    except DAMAGE as error:
        if getattr(error, "errno", None) in MENDABLE:
            raise
        raise UserError(f"{archive} is damaged ({error}). Download it again.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(members)


def _members(opened: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """File name -> member, of everything that is to be unpacked."""
    members: dict[str, zipfile.ZipInfo] = {}
    skipped = []
    for entry in opened.infolist():
        # Windows takes \\ and : for parts of a path too.
        name = PurePosixPath(entry.filename.replace("\\", "/").replace(":", "/")).name
        if entry.is_dir():
            continue
        if not name.lower().endswith(".png") or "__MACOSX" in entry.filename:
            skipped.append(entry.filename)
        elif entry.compress_type not in METHODS:
            raise UserError(
                f"{archive} compresses {name} with method {entry.compress_type}. Refused."
            )
        elif name in members:
            raise UserError(f"{archive} has two files named {name}. Refused.")
        else:
            members[name] = entry
    if skipped:
        logger.warning(
            "%s: %d files that are not PNG are skipped (first: %s)",
            archive,
            len(skipped),
            skipped[0],
        )
    if not members:
        raise UserError(f"{archive} holds no PNG file.")
    return members


def _check_sizes(members: Collection[zipfile.ZipInfo], archive: Path, folder: Path) -> None:
    """Refuse what would fill the disk; zipfile reads no more of a member than it announces."""
    needed = sum(member.file_size for member in members)
    if needed > MAX_GROWTH * archive.stat().st_size + SPARE_BYTES:
        raise UserError(f"{archive} would unpack to {needed} bytes: it is a ZIP bomb. Refused.")
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{archive} needs {needed / 1e9:.1f} GB unpacked, but {folder.parent} has "
            f"{free / 1e9:.1f} GB free. Free some space or choose another folder."
        )
