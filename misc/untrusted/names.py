"""The names that numpy's and torch's pickles ask for, and what each becomes here."""

from typing import Any

import numpy as np

from misc.untrusted.stored_array import (
    Refused,
    Span,
    StoredArray,
    checked_dtype,
    checked_shape,
    printable,
)
from misc.untrusted.unpickler import Buildable, Name, PickleReader

TORCH_MAGIC, TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch.save's format before 1.6
STORAGE_OPCODES = 1000  # a storage's own pickles have about 50
STORAGE_CODES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}


class DTypeDraft(Buildable):
    """A numpy dtype: its byte order comes after its code."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code
        self.byte_order = "<"

    def set_state(self, state: Any) -> None:
        """Take numpy's (version, byte order, sub-array, names, fields, ...)."""
        if type(state) is not tuple or len(state) < 5 or type(state[1]) is not str:
            raise Refused("it has a damaged array type")
        if any(part is not None for part in state[2:5]):
            raise Refused("it has an array of records, which are not plain numbers")
        self.byte_order = state[1]

    @staticmethod
    def plain(value: object) -> np.dtype:
        """The dtype that `value`, a draft, stands for."""
        if type(value) is not DTypeDraft:
            raise Refused("it has an array without a type")
        return checked_dtype(value.code, value.byte_order)


class ArrayDraft(Buildable):
    """A numpy array: its content comes after its making.

    Attributes:
        array: the array, None before it has a state and for an array of objects.
        objects: what an array of objects holds.
    """

    def __init__(self) -> None:
        self.array: StoredArray | None = None
        self.objects: list[Any] | None = None
        self.shape: tuple[int, ...] = ()

    def set_state(self, state: Any) -> None:
        """Take numpy's (version, shape, dtype, in Fortran order?, bytes)."""
        if type(state) is not tuple or len(state) != 5:
            raise Refused("it has a damaged array")
        _, shape, dtype, fortran_order, data = state
        self.shape = checked_shape(shape)
        if type(dtype) is DTypeDraft and dtype.code == "O8" and type(data) is list:
            self.objects = data
            return
        plain = DTypeDraft.plain(dtype)
        self.array = StoredArray(
            plain, self.shape, Span.of(data), fortran_order=fortran_order is True
        )


def _make_array(kind: object, *_: object) -> ArrayDraft:
    if kind is not NDARRAY:
        raise Refused("it makes an array of a class other than numpy.ndarray")
    return ArrayDraft()


def _array_from_buffer(data: object, dtype: object, shape: object, order: object) -> ArrayDraft:
    draft = ArrayDraft()
    draft.set_state((1, shape, dtype, order == "F", data))
    return draft


def _make_scalar(dtype: object, data: object) -> Any:
    return StoredArray(DTypeDraft.plain(dtype), (), Span.of(data)).read()[()]


def _encode(text: object, encoding: object) -> bytes:
    # How protocol 2 writes bytes.
    if type(text) is not str or encoding != "latin1":
        raise Refused("it encodes something other than bytes")
    return text.encode("latin-1")


def _make_tensor(
    storage: object, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, *extra: Any
) -> StoredArray:
    if type(storage) is not StoredArray:
        raise Refused("it has a tensor without a storage")
    if any(extra):
        raise Refused("it has a tensor with a lazy conjugate or sign")
    return StoredArray.view_of_storage(storage, offset, shape, strides)


class _StorageId:
    """What a storage's persistent id says of it."""

    def __init__(self, persistent_id: Any) -> None:
        if type(persistent_id) is not tuple or len(persistent_id) != 6:
            raise Refused("it has a damaged tensor")
        kind, storage_type, self.key, _location, self.count, view = persistent_id
        if kind != "storage" or type(storage_type) is not Name or view is not None:
            raise Refused("it has a tensor whose storage is of an unknown kind")
        # A key of nested tuples would take for ever to compare.
        if type(self.key) is not str:
            raise Refused("it has a tensor whose storage has no name")
        if storage_type.label not in STORAGE_CODES:
            raise Refused(f"it has a tensor of {storage_type.label}")
        checked_shape((self.count,))
        self.dtype = checked_dtype(STORAGE_CODES[storage_type.label])


def _read_storage(data: object) -> StoredArray:
    """A tensor's numbers from the bytes that `torch.save` made of them.

    Reads what `torch.load(..., weights_only=True)` would, but claims of the file are checked
    before any memory is taken, and the numbers stay in the file.
    """
    source = Span.of(data)
    position = 0

    def next_pickle() -> Any:
        nonlocal position
        reader = PickleReader(
            source.part(position, source.size - position),
            STORAGE_NAMES,
            max_opcodes=STORAGE_OPCODES,
            persistent=_StorageId,
        )
        value = reader.load()
        position += reader.position
        return value

    magic, protocol, system, storage, keys = (next_pickle() for _ in range(5))
    if magic != TORCH_MAGIC or protocol != TORCH_PROTOCOL or type(system) is not dict:
        raise Refused("it has a tensor in a format that torch does not pickle")
    if system.get("little_endian") is not True:
        raise Refused("it has a tensor from a big-endian machine")
    if type(storage) is not _StorageId or keys != [storage.key]:
        raise Refused("it has a tensor without exactly one storage")
    count = int.from_bytes(source.part(position, 8).read(), "little")
    if count != storage.count:
        raise Refused(f"it has a tensor of {storage.count} numbers with {count} stored")
    numbers = source.part(position + 8, source.size - position - 8)
    return StoredArray(storage.dtype, (storage.count,), numbers, is_tensor=True)


NDARRAY = Name("numpy.ndarray")
STORAGE_NAMES = {
    (module, name): Name(name) for module in ("torch", "torch.cuda") for name in STORAGE_CODES
}
NAMES = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): Name("numpy.dtype", DTypeDraft),
    ("numpy.core.multiarray", "_reconstruct"): Name("numpy _reconstruct", _make_array),
    ("numpy._core.multiarray", "_reconstruct"): Name("numpy _reconstruct", _make_array),
    ("numpy.core.multiarray", "scalar"): Name("numpy scalar", _make_scalar),
    ("numpy._core.multiarray", "scalar"): Name("numpy scalar", _make_scalar),
    ("numpy.core.numeric", "_frombuffer"): Name("numpy _frombuffer", _array_from_buffer),
    ("numpy._core.numeric", "_frombuffer"): Name("numpy _frombuffer", _array_from_buffer),
    ("_codecs", "encode"): Name("_codecs.encode", _encode),
    ("__builtin__", "bytes"): Name("bytes", lambda: b""),
    ("builtins", "bytes"): Name("bytes", lambda: b""),
    ("collections", "OrderedDict"): Name("OrderedDict", lambda: {}),
    ("torch._utils", "_rebuild_tensor_v2"): Name("torch _rebuild_tensor_v2", _make_tensor),
    ("torch.storage", "_load_from_bytes"): Name("torch _load_from_bytes", _read_storage),
}


def unwrapped(value: Any) -> Any:
    """An array in place of its draft; every other value as it is.

    Raises:
        Refused: for half-made arrays, arrays of objects, and values that are no data.
    """
    if type(value) is ArrayDraft:
        if value.objects is not None:
            raise Refused("it has an array of objects inside")
        if value.array is None:
            raise Refused("it has an array without content")
        return value.array
    if value is None or isinstance(value, (str, int, float, StoredArray, np.generic)):
        return value
    raise Refused(
        f"it holds {printable(type(value).__name__)}, which is neither an array nor a number"
    )
