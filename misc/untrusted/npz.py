"""Read untrusted .npz files, zip archives of plain arrays: nothing is unpacked or executed."""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from misc.untrusted.archives import METHODS
from misc.untrusted.npy import MAX_BYTES, open_data_file, plain_array, read_header
from misc.untrusted.stored_array import Refused, Span, StoredArray, printable

MEMBER = re.compile(r"(\w{1,100})\.npy", re.ASCII)
MAX_DIRECTORY_BYTES = 2**16  # about 1000 members
ENCRYPTED = 1  # a flag bit
# The last bytes of a zip archive without a comment, and what stands before them in large ones.
END = struct.Struct("<4s4H2LH")
END_MARK, ZIP64_MARK, ZIP64_BYTES = b"PK\5\6", b"PK\6\7", 20
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError)
# What zipfile raises besides for a directory made by hand.
DAMAGED_DIRECTORY = (*DAMAGE, struct.error, ValueError, NotImplementedError, OverflowError)


@contextmanager
def open_npz(path: Path, *, max_bytes: int = MAX_BYTES) -> Iterator[dict[str, StoredArray]]:
    """The arrays of a .npz file, by name, with their numbers still in it.

    Valid inside the block. Members stay packed until their numbers are read; one that nobody
    reads costs its header alone.

    Args:
        path: the file.
        max_bytes: larger files are refused, and those that would unpack to more.

    Raises:
        UserError: naming file and reason: for anything but arrays of plain numbers, packed as
            `np.savez` and `np.savez_compressed` do.
    """
    with open_data_file(path, max_bytes) as whole, ExitStack() as opened:
        try:
            count = _checked_count(whole)
            archive = opened.enter_context(zipfile.ZipFile(whole.file))
            if len(archive.infolist()) != count:
                raise Refused(f"it is damaged: it says that it has {count} arrays")
            arrays = {
                name: _array(opened, archive, member)
                for name, member in _members(archive, max_bytes).items()
            }
        except DAMAGED_DIRECTORY as error:
            raise Refused(f"it is damaged ({error})") from None
        try:
            yield arrays
        except DAMAGE as error:
            raise Refused(f"it is damaged ({error})") from None


def _checked_count(whole: Span) -> int:
    """How many members there are; refuses a directory larger than that of any .npz.

    zipfile would read it whole, and take ten times its size.
    """
    if whole.size < END.size + ZIP64_BYTES:
        raise Refused("it is empty or truncated: it is too short for an .npz")
    tail = whole.part(whole.size - END.size - ZIP64_BYTES, END.size + ZIP64_BYTES).read()
    mark, *_, count, directory_bytes, _, comment_bytes = END.unpack(tail[ZIP64_BYTES:])
    if mark != END_MARK or comment_bytes or tail.startswith(ZIP64_MARK):
        raise Refused("it is truncated or no .npz: it does not end as np.savez ends one")
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise Refused(f"it lists its members in {directory_bytes} bytes, which an .npz never needs")
    return count


def _members(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Name of an array -> its member."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        match = MEMBER.fullmatch(member.orig_filename)
        if match is None:
            shown = printable(member.orig_filename)
            raise Refused(f"it has a member named {shown}, which is no array of np.savez")
        if match[1] in members:
            raise Refused(f"it has two arrays named {match[1]}")
        if member.flag_bits & ENCRYPTED or member.compress_type not in METHODS:
            raise Refused(f"its array {match[1]} is packed in a way that np.savez does not use")
        members[match[1]] = member
    needed = sum(member.file_size for member in members.values())
    if needed > max_bytes:
        raise Refused(
            f"it would unpack to {needed} bytes, but such a file holds at most {max_bytes}"
        )
    return members


def _array(opened: ExitStack, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> StoredArray:
    # zipfile gives no more bytes than the directory announces, and checks them at the end.
    file = opened.enter_context(archive.open(member))
    whole = Span(file, 0, member.file_size)  # type: ignore[arg-type]
    try:
        return plain_array(whole, read_header(whole))
    except Refused as error:
        raise Refused(f"its array {member.filename.removesuffix('.npy')}: {error}") from None
