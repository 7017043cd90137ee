"""Arrays that lie in a file: shape and type are known, the numbers stay there until asked for."""

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

DTYPES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
MAX_RANK, MAX_LENGTH = 8, 2**31


class Refused(Exception):
    """What a file asks for or claims is not admitted; the message is the reason."""


def printable(value: object) -> str:
    """A value from an untrusted file, short and without control characters.

    Other values than text and integers are named by their type alone: a few tuples that hold each
    other twice have a text without end.
    """
    text = str(value) if type(value) in (str, int) else type(value).__name__
    shown = ascii(text[:200])[1:-1]
    return shown if len(shown) <= 100 else shown[:100] + "..."


@dataclass(frozen=True, slots=True)
class Span:
    """`size` bytes of `file` from `start`; nothing is read before `read` or `read_into`."""

    file: io.BufferedIOBase
    start: int
    size: int

    @classmethod
    def of(cls, data: object) -> "Span":
        """The bytes of a pickle, held in memory or still in the file."""
        if isinstance(data, Span):
            return data
        if isinstance(data, bytes):
            return cls(io.BytesIO(data), 0, len(data))
        raise Refused(f"it has {type(data).__name__} where bytes are expected")

    def part(self, start: int, size: int) -> "Span":
        """The `size` bytes from `start` on, counted from the start of this span."""
        if start < 0 or size < 0 or start + size > self.size:
            raise Refused(f"it is truncated: {size} bytes are declared, {self.size - start} left")
        return Span(self.file, self.start + start, size)

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer` (bytes, exactly this span's size)."""
        self.file.seek(self.start)
        if self.file.readinto(buffer) != self.size:
            raise Refused("it became shorter while it was read")

    def read(self) -> bytes:
        """The bytes themselves."""
        buffer = bytearray(self.size)
        self.read_into(memoryview(buffer))
        return bytes(buffer)


def checked_dtype(code: object, byte_order: str = "<") -> np.dtype:
    """Boolean, integer or float type from its pickled code (`f4`).

    Raises:
        Refused: for objects, strings, records and everything else.
    """
    if type(code) is not str or code not in DTYPES:
        raise Refused(f"it has an array of type {printable(code)}, which is not plain numbers")
    if byte_order not in ("<", ">", "=", "|"):
        raise Refused(f"it has the byte order {printable(byte_order)}")
    return np.dtype(byte_order + code)


def checked_shape(shape: object) -> tuple[int, ...]:
    """`shape` if it is a tuple of at most MAX_RANK lengths.

    Raises:
        Refused: if it is not.
    """
    if type(shape) is not tuple or len(shape) > MAX_RANK:
        raise Refused(f"it has an array of shape {printable(type(shape).__name__)}")
    if not all(type(n) is int and 0 <= n < MAX_LENGTH for n in shape):
        raise Refused("it has an array with a length that is not a whole number below 2**31")
    return shape


class StoredArray:
    """An array in a file; `read` gets the numbers.

    Attributes:
        shape, dtype: as claimed, and proven to fit the bytes there are.
        is_tensor: torch wrote it.
    """

    __slots__ = ("_data", "_fortran_order", "_strides", "dtype", "is_tensor", "shape")

    def __init__(
        self,
        dtype: np.dtype,
        shape: tuple[int, ...],
        data: Span,
        *,
        fortran_order: bool = False,
        is_tensor: bool = False,
    ) -> None:
        count = math.prod(shape)
        if count * dtype.itemsize != data.size:
            raise Refused(
                f"it has an array of shape {shape}, {count * dtype.itemsize} bytes, "
                f"but holds {data.size} bytes for it"
            )
        self.dtype, self.shape, self.is_tensor = dtype, shape, is_tensor
        self._data, self._fortran_order = data, fortran_order
        self._strides: tuple[int, ...] | None = None

    @classmethod
    def view_of_storage(
        cls, storage: "StoredArray", offset: Any, shape: Any, strides: Any
    ) -> "StoredArray":
        """A tensor: a strided view (counted in elements) of a one-dimensional storage.

        Raises:
            Refused: if the view leaves the storage, or is larger than it.
        """
        checked_shape((offset,))
        checked_shape(shape)
        if len(checked_shape(strides)) != len(shape):
            raise Refused("it has a tensor whose strides do not fit its shape")
        count, available = math.prod(shape), storage.shape[0]
        extent = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        extent = extent if count else 0
        if offset + extent > available or count > available:
            raise Refused(
                f"it has a tensor of shape {shape} that its {available} numbers do not fill"
            )
        item = storage.dtype.itemsize
        data = storage._data.part(offset * item, extent * item)
        view = cls(storage.dtype, (extent,), data, is_tensor=True)
        view.shape, view._strides = shape, strides
        return view

    @property
    def num_bytes(self) -> int:
        """How many bytes `read` takes from the file."""
        return self._data.size

    def read(self) -> np.ndarray:
        """The numbers, contiguous and the caller's own."""
        if self._strides is None:
            flat = np.empty(math.prod(self.shape), self.dtype)
            self._data.read_into(flat.view(np.uint8).data)
            return flat.reshape(self.shape, order="F" if self._fortran_order else "C")
        flat = np.empty(self._data.size // self.dtype.itemsize, self.dtype)
        self._data.read_into(flat.view(np.uint8).data)
        steps = [stride * self.dtype.itemsize for stride in self._strides]
        view = np.lib.stride_tricks.as_strided(flat, self.shape, steps)
        return np.ascontiguousarray(view).reshape(self.shape)
