"""What publishers put into their .npy and .npz CAM files, and how each becomes one record.

As read from each method's published code; the README of this folder has them in a table.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from misc.cam_files.irn import WALKED, Cams
from misc.cam_files.maps import (
    MAX_VALUE,
    OTHER_FORMAT,
    OTHER_SIZE,
    PARTS,
    Wanted,
    check_grid,
    checked_maps,
    complete_cams,
    derive_cam,
    refuse,
    resize,
    sorted_ids,
)
from misc.untrusted import StoredArray, printable

DRS_SIZE = 320  # DRS writes its maps at the size its network saw
# SFC doubles the foreground's maps and adds this to the background's.
SFC_FOREGROUND, SFC_BACKGROUND = 2, 0.4
# What SFC adds of IS_CAM to IS_CAM1: for its labels (full size), and for its walk (stride 4).
SFC_SHARES = {"high_res": 0.7, "cam": 0.3}
# Fields of DuPL, SeCo and WeCLIP, those over several scales first: masks to be, not CAMs.
SCORE_FIELDS = ("msc_seg", "msc_segs", "segs")


@dataclass(frozen=True)
class Layout:
    """How a dialect with named fields lays out its maps.

    Attributes:
        high_res: field of the full-size maps.
        cam: field of the stride-4 maps, None if it has none.
        keys: field of the classes; of several, the one that has a class for each channel.
        background_channel: channel 0 is the background and has no key.
        background_key: the background is a key, 0, and classes are keys from 1.
        lacks: a field that another dialect has beside the same ones.
    """

    high_res: str
    cam: str | None = None
    keys: tuple[str, ...] = ("keys",)
    background_channel: bool = False
    background_key: bool = False
    lacks: str | None = None


LAYOUTS = {
    "irn": Layout("high_res", "cam"),
    "amn": Layout("high_res", "cam", background_channel=True),
    "sipe": Layout("IS_CAM", background_key=True, lacks="IS_CAM1"),
    "toco": Layout("high_res"),
    "clip_es": Layout("attn_highres"),
    "pot": Layout("IS_CAM1", background_key=True),
    "sfc": Layout("IS_CAM1", background_key=True),
    "more": Layout("valid_lam", keys=("keys", "keys_gt")),
    "excel": Layout("valid_lam", keys=("keys_gt",), background_channel=True),
}
MAP_DICTS = ("psa", "psa_crf", "cti")
NPY_FORMATS = (*LAYOUTS, *MAP_DICTS, "drs")
NPZ_FORMAT = "fma"
SIZELESS = ("drs", "cti", "fma")  # their files do not have the image's size


def cams_of_record(record: Any, cam_format: str, wanted: Wanted) -> Cams:
    """The CAMs in what a .npy or .npz file holds.

    Args:
        record: its content, arrays still in the file (`misc.untrusted`).
        cam_format: auto, NPZ_FORMAT or one of NPY_FORMATS.
        wanted: image size, classes, parts.

    Raises:
        CamProblem: saying what is wrong and what to do.
    """
    if cam_format == "auto":
        cam_format = detect_format(record, wanted.count)
    if cam_format == "drs":
        return _read_drs(record, wanted)
    if not isinstance(record, dict):
        refuse(f"it holds a {_kind(record)}, but {cam_format} files hold a dict", OTHER_FORMAT)
    if cam_format in MAP_DICTS:
        return _read_map_dict(record, cam_format, wanted)
    if cam_format == NPZ_FORMAT:
        return _read_fma(record, wanted)
    if cam_format == "sfc":
        return _read_sfc(record, wanted)
    return _read_fields(record, LAYOUTS[cam_format], wanted)


def detect_format(record: Any, count: int) -> str:
    """The one .npy dialect that `record` can be.

    Args:
        record: what the file holds.
        count: how many numbers of classes there are (`count_of_numbers`).

    Raises:
        CamProblem: listing the candidates if there is not exactly one.
    """
    if isinstance(record, StoredArray) and record.dtype == np.uint8 and len(record.shape) == 3:
        return "drs"
    if not isinstance(record, dict):
        refuse(f"it holds a {_kind(record)}, which no known CAM file does")
    if all(type(key) is int for key in record):
        return _detect_map_dict(record, count)
    if scores := next((name for name in SCORE_FIELDS if name in record), None):
        refuse(
            f"it holds the scores of a segmentation network ({scores}), not CAMs",
            "Turn the folder into masks with python -m misc.mask_files SRC DST",
        )
    found = []
    if "IS_CAM" in record:
        found.append(_detect_pot_or_sfc(record) if "IS_CAM1" in record else "sipe")
    if "attn_highres" in record:
        found.append("clip_es")
    if "valid_lam" in record:
        found.append(_detect_more_or_excel(record))
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


def _detect_map_dict(record: dict[int, Any], count: int) -> str:
    # CRF folders always hold the background; their last class is `count`, not one less.
    if 0 not in record:
        return "psa"
    if count in record:
        return "psa_crf"
    refuse(
        "it is a dict of maps with key 0: psa (keys are classes from 0) or psa_crf (0 is the "
        "background, classes are from 1), and nothing in it says which",
        "Pass --cam_format psa or --cam_format psa_crf",
    )


def _detect_pot_or_sfc(record: dict[Any, Any]) -> str:
    """Told by the values: only SFC's exceed 1, and only POT's background falls below 0.4."""
    numbers = _class_numbers(record)
    fields = [record["IS_CAM"], record["IS_CAM1"]]
    if len(numbers) < 2 or not all(_is_maps(each, len(numbers)) for each in fields):
        return "pot"  # no class, or a file that is refused whoever wrote it
    background = numbers.index(0) if 0 in numbers else None
    is_doubled, is_raised = _marks_of_sfc([each.read() for each in fields], background)
    if is_doubled:
        return "sfc"
    if not is_raised:
        return "pot"
    refuse(
        "it has IS_CAM and IS_CAM1, as pot and sfc files have (which differ in scale), and "
        "nothing in it says which: no value exceeds 1, and the background is nowhere below "
        f"{SFC_BACKGROUND}",
        "Pass --cam_format pot or --cam_format sfc",
    )


def _marks_of_sfc(arrays: list[np.ndarray], background: int | None) -> tuple[bool, bool]:
    """Whether one of `arrays` (K+1,H,W) has a doubled foreground, and all a raised background."""
    rows = [k for k in range(len(arrays[0])) if k != background]
    is_doubled = any(bool((maps[rows] > MAX_VALUE).any()) for maps in arrays)
    lowest = SFC_BACKGROUND - 1e-3
    is_raised = background is not None and all(
        bool((maps[background] >= lowest).all()) for maps in arrays
    )
    return is_doubled, is_raised


def _detect_more_or_excel(record: dict[Any, Any]) -> str:
    # ExCEL has no predicted classes beside those of the tags, but a channel of the background.
    if "keys" in record or "keys_gt" not in record:
        return "more"
    channels, count = _channels(record["valid_lam"]), len(_class_numbers(record, "keys_gt"))
    return "more" if channels == count else "excel"


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


def _is_maps(maps: Any, channels: int) -> bool:
    return (
        isinstance(maps, StoredArray)
        and maps.dtype.kind == "f"
        and len(maps.shape) == 3
        and maps.shape[0] == channels
    )


def _class_numbers(record: dict[Any, Any], field: str = "keys") -> list[int]:
    """The classes in a field, an array, a tensor or a list, as plain integers."""
    keys = record.get(field)
    if isinstance(keys, StoredArray) and len(keys.shape) <= 1 and keys.num_bytes < 2**16:
        if keys.dtype.kind not in "iu" and keys.num_bytes:
            refuse(f"its {field} are {keys.dtype}, not integers")
        keys = keys.read().reshape(-1).tolist()
    if not isinstance(keys, (list, tuple)):
        refuse(f"its field {field} is missing or not a list of classes ({_kind(keys)})")
    numbers = [k.read()[()] if isinstance(k, StoredArray) and not k.shape else k for k in keys]
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in numbers):
        refuse(f"its {field} are not integers")
    return [int(n) for n in numbers]


def _numbers_of_channels(record: dict[Any, Any], layout: Layout) -> list[int]:
    """The classes of the layout's channels, in their order."""
    if len(layout.keys) == 1:
        return _class_numbers(record, layout.keys[0])
    lists = {name: _class_numbers(record, name) for name in layout.keys if name in record}
    if not lists:
        refuse(f"it has none of the fields {' and '.join(layout.keys)}", OTHER_FORMAT)
    channels = _channels(record.get(layout.high_res))
    fitting = {tuple(each) for each in lists.values() if len(each) == channels}
    shown = " and ".join(f"{name} {each[:40]}" for name, each in lists.items())
    if len(fitting) > 1:
        refuse(
            f"its {shown} both fit the {channels} channels of {layout.high_res}, and nothing says "
            "whose order they have",
            "Save it with only that of the two",
        )
    if not fitting:
        refuse(f"its {layout.high_res} has {channels} channels, which {shown} do not fit")
    return list(fitting.pop())


def _rows_of_classes(
    record: dict[Any, Any], layout: Layout, wanted: Wanted
) -> tuple[np.ndarray, list[int], int]:
    """Class ids (K,) ascending, the channel of each, and how many channels there are."""
    if layout.lacks in record:
        refuse(f"it has the field {layout.lacks} too, which tells another format", OTHER_FORMAT)
    numbers = _numbers_of_channels(record, layout)
    channels = len(numbers) + layout.background_channel
    rows = list(range(layout.background_channel, channels))
    if layout.background_key and numbers:
        if numbers.count(0) != 1:
            refuse("its keys do not contain 0, the background, exactly once", OTHER_FORMAT)
        rows.remove(numbers.index(0))
        numbers.remove(0)
    ids, order = sorted_ids(numbers, 1 if layout.background_key else 0, wanted)
    return ids, [rows[i] for i in order], channels


def _read_fields(record: dict[Any, Any], layout: Layout, wanted: Wanted) -> Cams:
    ids, rows, channels = _rows_of_classes(record, layout, wanted)
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
    return complete_cams(ids, maps, wanted, walked=record.get(WALKED) is True)


def _read_sfc(record: dict[Any, Any], wanted: Wanted) -> Cams:
    """IS_CAM1 and a share of IS_CAM, as a weighted mean of what they were before the doubling."""
    ids, rows, channels = _rows_of_classes(record, LAYOUTS["sfc"], wanted)
    shape = (channels, *wanted.image_size)
    names = ("IS_CAM1", "IS_CAM")
    has_maps = [_has_maps(record, name, shape, rows) for name in names]
    if not all(has_maps) or not wanted.parts:
        return complete_cams(ids, {}, wanted)
    arrays = [record[name].read() for name in names]
    (background,) = set(range(channels)) - set(rows)
    if _marks_of_sfc(arrays, background) == (False, False):
        refuse(
            f"no value exceeds 1 and its background falls below {SFC_BACKGROUND}, as in pot files "
            "and never in sfc files",
            "Pass --cam_format pot",
        )
    main, other = (
        checked_maps(maps[rows], name, SFC_FOREGROUND) / np.float32(SFC_FOREGROUND)
        for name, maps in zip(names, arrays, strict=True)
    )
    means = {part: (main + SFC_SHARES[part] * other) / (1 + SFC_SHARES[part]) for part in PARTS}
    return complete_cams(ids, {**means, "cam": derive_cam(means["cam"])}, wanted)


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


def _check_map(
    stored: StoredArray, shape: tuple[int, ...], what: str, remedy: str = OTHER_SIZE
) -> None:
    if stored.dtype.kind != "f":
        refuse(f"its {what} is {stored.dtype}, not floating point")
    if stored.shape != shape:
        refuse(f"its {what} has shape {stored.shape}, but the image needs {shape}", remedy)


def _read_map_dict(record: dict[Any, Any], cam_format: str, wanted: Wanted) -> Cams:
    first = 1 if cam_format == "psa_crf" else 0
    if not all(type(key) is int for key in record):
        refuse(f"it holds named fields, but {cam_format} files hold {{class: map}}", OTHER_FORMAT)
    if first and record and 0 not in record:
        refuse("it has no background, which psa_crf files hold as key 0", OTHER_FORMAT)
    numbers = [key for key in record if key != 0 or first == 0]
    ids, order = sorted_ids(numbers, first, wanted)
    size, remedy = wanted.image_size, OTHER_SIZE
    if cam_format == "psa":
        remedy += ", or pass --cam_format cti for maps of the size of CTI's input"
    for key, stored in record.items():
        if not isinstance(stored, StoredArray) or len(stored.shape) != 2:
            refuse(f"its map {key} is a {_kind(stored)}, not (height, width)")
        if cam_format == "cti":
            check_grid(stored.shape, wanted.image_size, f"map {key}")
            size = stored.shape
        _check_map(stored, size, f"map {key}", remedy)
    if not wanted.parts or not numbers:
        return complete_cams(ids, {}, wanted)
    keys = [numbers[i] for i in order]
    maps = [checked_maps(record[key].read(), f"map {key}") for key in keys]
    if cam_format == "cti":
        maps = [resize(each[None], wanted.image_size)[0] for each in maps]
    return complete_cams(ids, {"high_res": np.stack(maps)}, wanted)


def _read_fma(record: dict[Any, Any], wanted: Wanted) -> Cams:
    numbers = _class_numbers(record, "fg_cls")
    ids, order = sorted_ids(numbers, 0, wanted)
    cam = record.get("cam")
    grid = wanted.image_size
    if isinstance(cam, StoredArray) and len(cam.shape) == 3:
        grid = cam.shape[1:]  # CLIP's, of whatever fineness
    if not _has_maps(record, "cam", (len(numbers), *grid), order):
        return complete_cams(ids, {}, wanted)
    check_grid(grid, wanted.image_size, "cam")
    if not wanted.parts:
        return complete_cams(ids, {}, wanted)
    maps = resize(checked_maps(record["cam"].read()[order], "cam"), wanted.image_size)
    return complete_cams(ids, {"high_res": maps}, wanted)


def _read_drs(record: Any, wanted: Wanted) -> Cams:
    shape = (wanted.count, DRS_SIZE, DRS_SIZE)
    if not isinstance(record, StoredArray) or record.dtype != np.uint8 or record.shape != shape:
        refuse(f"it holds a {_kind(record)}, but drs files hold uint8 {shape}", OTHER_FORMAT)
    stored = record.read()
    present = np.flatnonzero(stored.any(axis=(1, 2))).tolist()
    ids, _ = sorted_ids(present, 0, wanted)
    maps = {}
    if present and wanted.parts:
        values = stored[present].astype(np.float32) / 255
        maps["high_res"] = resize(values, wanted.image_size)
    return complete_cams(ids, maps, wanted)
