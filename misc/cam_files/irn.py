"""The CAMs of one image, and the file in which the IRN family exchanges them."""

import io
import struct
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from misc.untrusted import TORCH_MAGIC, TORCH_PROTOCOL

CAM_DTYPES = ("float32", "float16")
HIGH_RES_MULTIPLE = 16
STRIDE = 4  # of the small maps
WALKED = "walked"  # the field that marks scores of a random walk
MAX_EPSILON = 1e-5  # a class is divided by its maximum plus this
FRAME_BYTES = 1000  # of a file, beside its maps
NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"
PROTOCOL_2, PROTOCOL_3, STOP = b"\x80\x02", b"\x80\x03", b"."


@dataclass(frozen=True, eq=False)
class Cams:
    """Class activation maps of one image of size (H,W).

    Attributes:
        class_ids: int64 (K,), present classes from 1, ascending; K = 0: all is background.
        cam: float32 (K,h,w) at stride 4, h = (H-1)//4+1, 0..1.
        high_res: float32 (K,H,W), 0..1.

    A part that the reader was told to leave out has shape (K,0,0).
    """

    class_ids: np.ndarray
    cam: np.ndarray
    high_res: np.ndarray

    def __post_init__(self) -> None:
        ids = self.class_ids
        if ids.dtype != np.int64 or ids.ndim != 1 or np.any(np.diff(ids, prepend=0) <= 0):
            raise ValueError(f"class_ids are not int64, from 1 and ascending: {ids}")
        for maps in (self.cam, self.high_res):
            if maps.dtype != np.float32 or maps.ndim != 3 or len(maps) != len(ids):
                raise ValueError(f"{maps.dtype} {maps.shape} is not float32 ({len(ids)},h,w)")

    def only(self, class_ids: Collection[int]) -> "Cams":
        """These CAMs without the classes that `class_ids` (from 1) lacks."""
        kept = np.isin(self.class_ids, np.fromiter(class_ids, np.int64))
        return Cams(self.class_ids[kept], self.cam[kept], self.high_res[kept])


def stride4_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """(h,w) of the stride-4 map of an image of `image_size` (H,W)."""
    return (image_size[0] - 1) // STRIDE + 1, (image_size[1] - 1) // STRIDE + 1


def padded_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """(h,w) that CAMs are enlarged to before they are cut to `image_size` (H,W)."""
    rows, columns = ((length - 1) // HIGH_RES_MULTIPLE + 1 for length in image_size)
    return rows * HIGH_RES_MULTIPLE, columns * HIGH_RES_MULTIPLE


def cam_file_bytes(
    num_classes: int, image_size: tuple[int, int], dtype: str = "float32", *, high_res: bool = True
) -> int:
    """About how long the file of `irn_record_bytes` is, for that many classes present."""
    h, w = stride4_size(image_size)
    pixels = h * w + (image_size[0] * image_size[1] if high_res else 0)
    return num_classes * pixels * np.dtype(dtype).itemsize + FRAME_BYTES


def irn_record_bytes(
    cams: Cams, dtype: str = "float32", *, high_res: bool = True, walked: bool = False
) -> bytes:
    """The .npy file of `cams` that IRN, BES and their kin read; equal CAMs give equal bytes.

    A pickled dict: keys torch int64 (K,) from 0, cam torch float32, high_res numpy float32; both
    of the smaller `dtype` float16 if asked for, and high_res left out if it is False (its
    readers then have to derive it, as ours do). A further field marks scores of a random walk.
    numpy's and torch's own pickles hold addresses and the names of this version's modules; these
    are written opcode by opcode, with names that numpy 1 and 2 and torch from 0.4 on know.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    code, storage = {"float32": ("f4", "FloatStorage"), "float16": ("f2", "HalfStorage")}[dtype]
    fields = [
        _text("keys"),
        _tensor((cams.class_ids - 1).astype("<i8"), "LongStorage"),
        _text("cam"),
        _tensor(cams.cam.astype(f"<{code}"), storage),
    ]
    if high_res:
        numbers = cams.high_res.astype(f"<{code}").tobytes()
        fields += [_text("high_res"), _array(code, b"<", cams.high_res.shape, _bytes(numbers), 0)]
    if walked:
        fields += [_text(WALKED), TRUE]
    record = b"](}(" + b"".join(fields) + b"ue"
    return header.getvalue() + PROTOCOL_3 + _array("O8", b"|", (), record, 63) + STOP


def _array(code: str, byte_order: bytes, shape: tuple[int, ...], data: bytes, flags: int) -> bytes:
    # numpy's __reduce__: an empty array, then its state with a dtype that has a state as well.
    empty = _tuple(_global("numpy", "ndarray"), _tuple(_int(0)), _bytes(b"b"))
    dtype = _global("numpy", "dtype") + _tuple(_text(code), FALSE, TRUE) + b"R"
    order = _text(byte_order.decode())
    dtype += _tuple(_int(3), order, NONE, NONE, NONE, _int(-1), _int(-1), _int(flags)) + b"b"
    state = _tuple(_int(1), _tuple(*map(_int, shape)), dtype, FALSE, data)
    return _global("numpy.core.multiarray", "_reconstruct") + empty + b"R" + state + b"b"


def _tensor(numbers: np.ndarray, storage_type: str) -> bytes:
    strides = tuple(stride // numbers.itemsize for stride in numbers.strides)
    storage = _global("torch.storage", "_load_from_bytes")
    storage += _tuple(_bytes(_storage(numbers, storage_type))) + b"R"
    hooks = _global("collections", "OrderedDict") + b")R"
    view = (_int(0), _tuple(*map(_int, numbers.shape)), _tuple(*map(_int, strides)))
    arguments = _tuple(storage, *view, FALSE, hooks)
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def _storage(numbers: np.ndarray, storage_type: str) -> bytes:
    # torch.save's format before 1.6: five pickles, the count, the numbers.
    magic = TORCH_MAGIC.to_bytes(10, "little")
    system = b"}(" + _text("protocol_version") + _int(TORCH_PROTOCOL)
    system += _text("little_endian") + TRUE + _text("type_sizes") + b"}("
    for name, size in (("short", 2), ("int", 4), ("long", 4)):
        system += _text(name) + _int(size)
    identity = _tuple(
        _text("storage"),
        _global("torch", storage_type),
        _text("0"),
        _text("cpu"),
        _int(numbers.size),
        NONE,
    )
    pickles = (
        b"\x8a\x0a" + magic,
        _int(TORCH_PROTOCOL),
        system + b"uu",
        identity + b"Q",
        b"]" + _text("0") + b"a",
    )
    content = b"".join(PROTOCOL_2 + pickle + STOP for pickle in pickles)
    return content + struct.pack("<q", numbers.size) + numbers.tobytes()


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _bytes(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"
