"""Read untrusted .npy files, pickled dicts among them, without executing anything in them."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from misc.errors import UserError
from misc.untrusted.names import NAMES, ArrayDraft, unwrapped
from misc.untrusted.stored_array import (
    Refused,
    Span,
    StoredArray,
    checked_dtype,
    checked_shape,
    printable,
)
from misc.untrusted.unpickler import PickleReader

MAX_BYTES = 2**30
MAX_OPCODES = 5_000_000
MAX_DEPTH = 20
HEADER = re.compile(
    r"\{'descr': '([<>|=])([a-zA-Z]\d{0,3})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,12}, ?)*(?:\d{1,12})?)\), \}\s*"
)
REMEDY = (
    "Such files are read as data: numbers, strings, lists, dicts, numpy arrays and torch tensors. "
    "If you trust its author, load it with numpy or torch and save only such data with np.save."
)


@contextmanager
def open_data_file(path: Path, max_bytes: int) -> Iterator[Span]:
    """Open a regular file; `Refused` inside the block becomes a UserError that names it.

    A symbolic link may point within the folder it lies in, not out of it: what an
    untrusted archive unpacks to must not read other files of the user.

    Args:
        path: the file.
        max_bytes: larger files are refused.

    Raises:
        UserError: if it is missing, not a regular file, too large, or a link out of its folder.
    """
    try:
        if path.is_symlink():
            _check_link(path)
        # Opening a pipe would wait for a writer for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refused("it is not a regular file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise Refused(f"it has {size} bytes, but such a file has at most {max_bytes}")
            yield Span(file, 0, size)
    except FileNotFoundError:
        raise UserError(
            f"No file {path}. Put it there, or remove its image from the list."
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    except Refused as error:
        raise UserError(f"{path} is not read: {error}. {REMEDY}") from None


def _check_link(path: Path) -> None:
    target = Path(os.path.realpath(path))
    if Path(os.path.realpath(path.parent)) not in target.parents:
        raise Refused(
            f"it is a link out of its folder, to {target}. Copy the file into the folder, or "
            "pass the folder that holds it"
        )


@contextmanager
def open_npy(
    path: Path, *, max_bytes: int = MAX_BYTES, max_opcodes: int = MAX_OPCODES
) -> Iterator[Any]:
    """The content of a .npy file with its arrays still on disk (`StoredArray`).

    Valid inside the block; `safe_load` says what is admitted, no pickle at all with `max_opcodes`
    0. A skipped array costs no reading.

    Raises:
        UserError: naming file and reason.
    """
    with open_data_file(path, max_bytes) as whole:
        content = _parse(whole, max_opcodes)
        yield _rebuilt(content, None)


def safe_load(path: Path, *, max_bytes: int = MAX_BYTES, max_opcodes: int = MAX_OPCODES) -> Any:
    """Read a .npy file made by anybody: a plain array, or one pickled object.

    Admitted: numpy arrays and scalars of bool, integer and float types, dense torch tensors,
    dict (keys: str or int), list, tuple, str, int, float, bool and None. Everything else is
    refused by name and nothing of it runs. Claims are checked against the file's size before
    memory is taken.

    Args:
        path: the file; of an `np.save`d object the object itself comes back.
        max_bytes: larger files are refused.
        max_opcodes: longer pickles are refused; one opcode costs about 100 bytes.

    Raises:
        UserError: naming file and reason.
    """
    with open_data_file(path, max_bytes) as whole:
        return _rebuilt(_parse(whole, max_opcodes), whole.size)


class Header(NamedTuple):
    """What a .npy file says of its array: `start` is where the content begins."""

    code: str
    byte_order: str
    fortran_order: bool
    shape: tuple[int, ...]
    start: int


def plain_array(whole: Span, header: Header) -> StoredArray:
    """The array of a .npy file; its numbers stay there.

    Raises:
        Refused: if it is not of plain numbers, or not as long as its header says.
    """
    content = whole.part(header.start, whole.size - header.start)
    dtype = checked_dtype(header.code, header.byte_order)
    return StoredArray(dtype, header.shape, content, fortran_order=header.fortran_order)


def _parse(whole: Span, max_opcodes: int) -> Any:
    header = read_header(whole)
    if header.code != "O":
        return plain_array(whole, header)
    if header.shape != ():
        raise Refused(f"it is an array of objects of shape {header.shape}")
    if max_opcodes == 0:
        raise Refused("it is a pickle, but only a plain array is expected")
    content = whole.part(header.start, whole.size - header.start)
    reader = PickleReader(content, NAMES, max_opcodes=max_opcodes)
    array = reader.load()
    if reader.position != content.size:
        raise Refused(f"it has {content.size - reader.position} bytes after its end")
    if type(array) is not ArrayDraft or array.shape != () or len(array.objects or ()) != 1:
        raise Refused("its content is not what its header says")
    return array.objects[0]  # type: ignore[index]


def read_header(whole: Span) -> Header:
    """The header of a .npy file.

    Raises:
        Refused: if it is not that of an array.
    """
    file, size = whole.file, whole.size
    start = file.read(8)
    if start[:4] == b"PK\x03\x04":
        raise Refused("it is a zip archive (.npz), but its name says .npy")
    if start[:6] != b"\x93NUMPY":
        raise Refused("it does not start as a .npy file does" if size else "it is empty")
    width = {1: 2, 2: 4}.get(start[6] if len(start) == 8 else 1)
    if width is None:
        raise Refused(f"it has .npy version {start[6]}, which plain arrays do not need")
    length = int.from_bytes(file.read(width), "little")
    if length > 10_000 or 8 + width + length > size:
        raise Refused(f"it is truncated or damaged: its header claims {length} bytes")
    header = file.read(length).decode("latin-1")
    match = HEADER.fullmatch(header)
    if match is None:
        raise Refused(f"its header is not that of a plain array: {printable(header)}")
    byte_order, code, fortran_order, lengths = match.groups()
    shape = tuple(int(n) for n in lengths.split(",") if n.strip())
    in_fortran_order = fortran_order == "True"
    return Header(code, byte_order, in_fortran_order, checked_shape(shape), 8 + width + length)


def _rebuilt(content: Any, budget: int | None) -> Any:
    """A copy of `content` that holds data and nothing else.

    Arrays are read, at most `budget` bytes of them, or stay on disk if it is None.
    """
    done: dict[int, Any] = {}
    bytes_read = 0

    def rebuild(value: Any, depth: int) -> Any:
        nonlocal bytes_read
        if depth > MAX_DEPTH:
            raise Refused(f"it is nested more than {MAX_DEPTH} levels deep")
        if id(value) in done:
            return done[id(value)]
        if type(value) is dict:
            result: Any = done.setdefault(id(value), {})
            result.update((k, rebuild(v, depth + 1)) for k, v in value.items())
        elif type(value) is list:
            result = done.setdefault(id(value), [])
            result.extend(rebuild(v, depth + 1) for v in value)
        elif type(value) is tuple:
            result = tuple(rebuild(v, depth + 1) for v in value)
        else:
            result = unwrapped(value)
            if budget is not None and isinstance(result, StoredArray):
                bytes_read += result.num_bytes
                if bytes_read > budget:
                    raise Refused("its arrays share their bytes and are larger than the file")
                result = _as_read(result)
        done[id(value)] = result
        return result

    return rebuild(content, 0)


def _as_read(array: StoredArray) -> Any:
    numbers = array.read()
    if not array.is_tensor:
        return numbers
    import torch

    return torch.from_numpy(numbers)
