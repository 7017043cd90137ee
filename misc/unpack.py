"""Unpack a stranger's ZIP of PNG files into one folder: all of it or nothing."""

import logging
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from misc.errors import UserError
from misc.log import progress

logger = logging.getLogger(__name__)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# PNGs are compressed already: a ZIP of them that grows much more is made to fill the disk.
MAX_GROWTH = 20
MAX_FILE_BYTES = 1 << 28
MAX_FILES = 1_000_000
SPARE_BYTES = 1 << 20
BLOCK_BYTES = 1 << 20
ENCRYPTED = 1
# What PNGs are packed with; the errors of other methods' readers are no ZIP's (OSError, LZMAError).
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class BadArchive(UserError):
    """The archive itself is damaged or hostile: it is of no use."""


def unpack_pngs(archive: Path, folder: Path) -> int:
    """Unpack the PNG files of `archive` into `folder`, which appears when all are there.

    Folders inside the archive are left out; other kinds of files are skipped and logged.

    Args:
        archive: ZIP file; nothing in it is trusted.
        folder: folder to make.

    Returns:
        number of files.

    Raises:
        BadArchive: if it is damaged, holds no PNG, names a path outside the folder, a link or a
            file twice, is packed in another way than by deflate, or grows beyond all measure.
            Nothing is left behind then.
        UserError: if the folder exists, or the disk is too small.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already. Name another folder, or delete it.")
    partial = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, archive)
            _demand_space(members, folder.parent, archive)
            partial.mkdir(parents=True)
            for name, member in progress(members.items(), desc=f"unpacking {folder.name}"):
                _extract(opened, member, partial / name)
        partial.replace(folder)
    except DAMAGE as error:
        raise BadArchive(f"{archive} is no intact ZIP ({error}). Fetch it again.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(members)


def _members(opened: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """File name -> member, of everything that is to be unpacked."""
    entries = opened.infolist()
    if len(entries) > MAX_FILES:
        raise BadArchive(f"{archive} has {len(entries)} entries, more than {MAX_FILES}. Refused.")
    members: dict[str, zipfile.ZipInfo] = {}
    skipped = []
    for entry in entries:
        _demand_harmless(entry, archive)
        name = PurePosixPath(entry.filename).name
        if entry.is_dir():
            continue
        if not name.lower().endswith(".png") or "__MACOSX" in entry.filename:
            skipped.append(entry.filename)
        elif name in members:
            raise BadArchive(f"{archive} has two files {name}. Refused.")
        else:
            members[name] = entry
    if skipped:
        logger.warning("%s: %d files are no PNG, %s first", archive, len(skipped), skipped[0])
    if not members:
        raise BadArchive(f"{archive} holds no PNG file.")
    total = sum(entry.file_size for entry in entries)
    if total > MAX_GROWTH * archive.stat().st_size + SPARE_BYTES:
        raise BadArchive(f"{archive} would unpack to {total} bytes: it is a ZIP bomb. Refused.")
    return members


def _demand_harmless(entry: zipfile.ZipInfo, archive: Path) -> None:
    # orig_filename: zipfile cuts names at a NUL and turns the system's separators around.
    name = entry.orig_filename
    path = PurePosixPath(name)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if not name or "\\" in name or ":" in name or "\0" in name or ".." in path.parts:
        raise BadArchive(f"{archive} has an entry {name!r}, which leaves the folder. Refused.")
    if path.is_absolute():
        raise BadArchive(f"{archive} has an entry {name!r}, an absolute path. Refused.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadArchive(f"{archive} has an entry {name!r} that is a link or no file. Refused.")
    if entry.flag_bits & ENCRYPTED:
        raise BadArchive(f"{archive} has an encrypted entry {name!r}. Refused.")
    if entry.compress_type not in METHODS:
        raise BadArchive(
            f"{archive} has an entry {name!r} packed by method {entry.compress_type}, neither "
            "stored nor deflated. Refused."
        )
    if entry.file_size > MAX_FILE_BYTES:
        raise BadArchive(f"{archive}: {name!r} unpacks to {entry.file_size} bytes. Refused.")
    if entry.header_offset >= archive.stat().st_size:
        raise BadArchive(f"{archive} has an entry {name!r} behind its own end. Refused.")


def _demand_space(members: dict[str, zipfile.ZipInfo], folder: Path, archive: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(entry.file_size for entry in members.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{archive} needs {needed / 1e9:.1f} GB unpacked, but {folder} has {free / 1e9:.1f} GB "
            "free. Make room or name another folder."
        )


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Write one file; the archive's reader checks its size and checksum at the end."""
    with opened.open(member) as source, open(path, "xb") as target:
        first = source.read(len(PNG_SIGNATURE))
        if first != PNG_SIGNATURE:
            raise BadArchive(f"{opened.filename}: {member.filename} is no PNG. Refused.")
        target.write(first)
        for block in _blocks(source):
            target.write(block)
    if path.stat().st_size != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} has another size than announced")


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    while block := source.read(BLOCK_BYTES):
        yield block
