"""What publishers put into their .npy CAM files, and how each becomes one record.

As read from each method's published code; misc/README.md has them in a table.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from misc.cam_files.irn import Cams
from misc.cam_files.maps import (
    OTHER_FORMAT,
    Wanted,
    checked_maps,
    complete_cams,
    refuse,
    resize,
    sorted_ids,
)
from misc.untrusted import StoredArray, printable

DRS_SIZE = 320  # DRS writes its maps at the size its network saw


@dataclass(frozen=True)
class Layout:
    """How a dialect with named fields lays out its maps.

    Attributes:
        high_res: field of the full-size maps.
        cam: field of the stride-4 maps, None if it has none.
        background_channel: channel 0 is the background and has no key.
        background_key: the background is a key, 0, and classes are keys from 1.
    """

    high_res: str
    cam: str | None = None
    background_channel: bool = False
    background_key: bool = False


LAYOUTS = {
    "irn": Layout("high_res", "cam"),
    "amn": Layout("high_res", "cam", background_channel=True),
    "sipe": Layout("IS_CAM", background_key=True),
    "toco": Layout("high_res"),
    "clip_es": Layout("attn_highres"),
}
NPY_FORMATS = (*LAYOUTS, "psa", "psa_crf", "drs")


def cams_of_record(record: Any, cam_format: str, wanted: Wanted) -> Cams:
    """The CAMs in what a .npy file holds.

    Args:
        record: its content, arrays still in the file (`misc.untrusted.open_npy`).
        cam_format: auto or one of NPY_FORMATS.
        wanted: image size, class count, parts.

    Raises:
        CamProblem: saying what is wrong and what to do.
    """
    if cam_format == "auto":
        cam_format = detect_format(record, wanted.num_classes)
    if cam_format == "drs":
        return _read_drs(record, wanted)
    if not isinstance(record, dict):
        refuse(f"it holds a {_kind(record)}, but {cam_format} files hold a dict", OTHER_FORMAT)
    if cam_format in ("psa", "psa_crf"):
        return _read_map_dict(record, cam_format, wanted)
    return _read_fields(record, LAYOUTS[cam_format], wanted)


def detect_format(record: Any, num_classes: int) -> str:
    """The one dialect that `record` can be.

    Raises:
        CamProblem: listing the candidates if there is not exactly one.
    """
    if isinstance(record, StoredArray) and record.dtype == np.uint8 and len(record.shape) == 3:
        return "drs"
    if not isinstance(record, dict):
        refuse(f"it holds a {_kind(record)}, which no known CAM file does")
    if all(type(key) is int for key in record):
        return _detect_map_dict(record, num_classes)
    found = [name for name in ("sipe", "clip_es") if LAYOUTS[name].high_res in record]
    if "cam" in record:
        found.append(_detect_by_channels(record))
    elif "high_res" in record:
        found.append("toco")
    if not found and "keys" in record and not _class_numbers(record):
        return "irn"
    if len(found) != 1:
        marks = f"the marks of {' and '.join(found)}" if found else "the marks of no known format"
        fields = ", ".join(sorted(printable(key) for key in list(record)[:8]))
        refuse(f"it has {marks} (its fields: {fields})", OTHER_FORMAT)
    return found[0]


def _detect_map_dict(record: dict[int, Any], num_classes: int) -> str:
    # CRF folders always hold the background; their last class is num_classes, not one less.
    if 0 not in record:
        return "psa"
    if num_classes in record:
        return "psa_crf"
    refuse(
        "it is a dict of maps with key 0: psa (keys are classes from 0) or psa_crf (0 is the "
        "background, classes are from 1), and nothing in it says which",
        "Pass --cam_format psa or --cam_format psa_crf",
    )


def _detect_by_channels(record: dict[Any, Any]) -> str:
    count, channels = len(_class_numbers(record)), _channels(record["cam"])
    if channels - count not in (0, 1):
        refuse(f"its cam has {channels} channels for {count} keys")
    return "irn" if channels == count else "amn"


def _kind(value: Any) -> str:
    if isinstance(value, StoredArray):
        return f"{value.dtype} array of shape {value.shape}"
    return type(value).__name__


def _channels(maps: Any) -> int:
    return maps.shape[0] if isinstance(maps, StoredArray) and maps.shape else 0


def _class_numbers(record: dict[Any, Any]) -> list[int]:
    """The record's keys, from an array, a tensor or a list, as plain integers."""
    keys = record.get("keys")
    if isinstance(keys, StoredArray) and len(keys.shape) <= 1 and keys.num_bytes < 2**16:
        if keys.dtype.kind not in "iu" and keys.num_bytes:
            refuse(f"its keys are {keys.dtype}, not integers")
        keys = keys.read().reshape(-1).tolist()
    if not isinstance(keys, (list, tuple)):
        refuse(f"its field keys is missing or not a list of classes ({_kind(keys)})")
    numbers = [k.read()[()] if isinstance(k, StoredArray) and not k.shape else k for k in keys]
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in numbers):
        refuse("its keys are not integers")
    return [int(n) for n in numbers]


def _read_fields(record: dict[Any, Any], layout: Layout, wanted: Wanted) -> Cams:
    numbers = _class_numbers(record)
    channels = len(numbers) + layout.background_channel
    rows = list(range(layout.background_channel, channels))
    if layout.background_key and numbers:
        if numbers.count(0) != 1:
            refuse("its keys do not contain 0, the background, exactly once", OTHER_FORMAT)
        rows.remove(numbers.index(0))
        numbers.remove(0)
    ids, order = sorted_ids(numbers, 1 if layout.background_key else 0, wanted.num_classes)
    rows = [rows[i] for i in order]
    maps = {}
    fields = {"high_res": layout.high_res}
    if layout.cam is not None:
        fields = {"cam": layout.cam, **fields}
    if layout.cam in record and layout.high_res not in record:
        del fields["high_res"]  # written with --cam_high_res no
    is_alone = len(fields) == 1  # the other part is derived from it
    for part, field in fields.items():
        if not _has_maps(record, field, (channels, *wanted.size_of(part)), rows):
            continue
        if part in wanted.parts or (is_alone and wanted.parts):
            stored = record[field].read()
            in_order = stored if rows == list(range(len(stored))) else stored[rows]
            maps[part] = checked_maps(in_order, field)
    return complete_cams(ids, maps, wanted)


def _has_maps(record: dict[Any, Any], field: str, shape: tuple[int, ...], rows: list[int]) -> bool:
    """True if the field has maps of `shape` to read; False if there is no class to read."""
    stored = record.get(field)
    channels = _channels(stored)
    if not rows:
        # Without a class, publishers write keys only, empty arrays, or the background alone.
        if channels not in (0, shape[0]):
            refuse(f"its {field} has {channels} channels, but its keys name no class")
        return False
    if stored is None:
        refuse(f"it has no field {field}", OTHER_FORMAT)
    if not isinstance(stored, StoredArray) or len(stored.shape) != 3:
        refuse(f"its {field} is a {_kind(stored)}, not maps (channels, height, width)")
    if channels != shape[0]:
        refuse(f"its {field} has {channels} channels, not {shape[0]}", OTHER_FORMAT)
    _check_map(stored, shape, field)
    return True


def _check_map(stored: StoredArray, shape: tuple[int, ...], what: str) -> None:
    if stored.dtype.kind != "f":
        refuse(f"its {what} is {stored.dtype}, not floating point")
    if stored.shape != shape:
        refuse(
            f"its {what} has shape {stored.shape}, but the image needs {shape}",
            "Make it again at the size of the image, or replace the image",
        )


def _read_map_dict(record: dict[Any, Any], cam_format: str, wanted: Wanted) -> Cams:
    first = 1 if cam_format == "psa_crf" else 0
    if not all(type(key) is int for key in record):
        refuse(f"it holds named fields, but {cam_format} files hold {{class: map}}", OTHER_FORMAT)
    if first and record and 0 not in record:
        refuse("it has no background, which psa_crf files hold as key 0", OTHER_FORMAT)
    numbers = [key for key in record if key != 0 or cam_format == "psa"]
    ids, order = sorted_ids(numbers, first, wanted.num_classes)
    for key, stored in record.items():
        if not isinstance(stored, StoredArray) or len(stored.shape) != 2:
            refuse(f"its map {key} is a {_kind(stored)}, not (height, width)")
        _check_map(stored, wanted.image_size, f"map {key}")
    if not wanted.parts or not numbers:
        return complete_cams(ids, {}, wanted)
    keys = [numbers[i] for i in order]
    maps = [checked_maps(record[key].read(), f"map {key}") for key in keys]
    return complete_cams(ids, {"high_res": np.stack(maps)}, wanted)


def _read_drs(record: Any, wanted: Wanted) -> Cams:
    shape = (wanted.num_classes, DRS_SIZE, DRS_SIZE)
    if not isinstance(record, StoredArray) or record.dtype != np.uint8 or record.shape != shape:
        refuse(f"it holds a {_kind(record)}, but drs files hold uint8 {shape}", OTHER_FORMAT)
    stored = record.read()
    present = np.flatnonzero(stored.any(axis=(1, 2)))
    maps = {}
    if len(present) and wanted.parts:
        values = stored[present].astype(np.float32) / 255
        maps["high_res"] = resize(values, wanted.image_size)
    return complete_cams(present.astype(np.int64) + 1, maps, wanted)
