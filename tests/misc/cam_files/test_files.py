import io
import os
import pickle
import pickletools
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from misc.cam_files import CamFolder, Cams, read_cams, read_tags_file, stride4_size, write_irn
from misc.cam_files.dialects import SIZELESS
from misc.cam_files.files import cam_path
from misc.cam_files.irn import irn_record_bytes
from misc.cam_files.png import split_name
from misc.errors import UserError
from misc.untrusted import safe_load
from tests.helpers.cam_writers import WRITERS, save, with_background
from tests.helpers.paths import GOLDEN

SIZE = (50, 67)
STRIDE4 = (13, 17)
NUM_CLASSES = 20
CLASSES = [14, 0, 7]  # from 0 and unsorted, as publishers may leave them
# torch 2.4 and 2.5 do, of their own `torch.load`, which unpickling calls.
OLD_TORCH_WARNS = pytest.mark.filterwarnings("ignore:You are using `torch.load`:FutureWarning")


def smooth_maps(classes: list[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """One map a class, float32 in 0..1 with maximum 1, different for each class."""
    y, x = np.mgrid[: size[0], : size[1]]
    maps = [np.exp(-((y - 2 * c) ** 2 + (x - 3 * c) ** 2) / 200.0) for c in classes]
    stacked = np.array(maps, np.float32).reshape(len(classes), *size)
    return stacked / stacked.max(axis=(1, 2), keepdims=True) if classes else stacked


HIGH_RES = smooth_maps(CLASSES)
CAM = np.ascontiguousarray(HIGH_RES[:, ::4, ::4])


def write(path: Path, cam_format: str) -> None:
    WRITERS[cam_format](path.parent, path.stem, CLASSES, HIGH_RES)


def write_irn_like(path: Path) -> None:
    write(path, "irn")


NPY_DIALECTS = [name for name in WRITERS if name not in (*SIZELESS, "oaa_png")]


def write_pngs(folder: Path, image_id: str) -> list[Path]:
    WRITERS["oaa_png"](folder, image_id, CLASSES, HIGH_RES)
    return [folder / f"{image_id}_{c}.png" for c in CLASSES]


def write_drs(path: Path) -> np.ndarray:
    maps = np.zeros((NUM_CLASSES, 320, 320), np.uint8)
    maps[CLASSES] = np.rint(smooth_maps(CLASSES, (320, 320)) * 255)
    np.save(path, maps)
    return maps


def read(path: Path | list[Path], cam_format: str = "auto", **more: Any) -> Cams:
    return read_cams(path, SIZE, num_classes=NUM_CLASSES, cam_format=cam_format, **more)


def refused(path: Path | list[Path], reason: str, cam_format: str = "auto") -> str:
    with pytest.raises(UserError, match=reason) as caught:
        read(path, cam_format)
    message = str(caught.value)
    assert str(path if isinstance(path, Path) else path[0].parent) in message
    return message


def derived(high_res: np.ndarray) -> np.ndarray:
    cam = F.interpolate(torch.from_numpy(high_res)[None], STRIDE4, mode="bilinear")[0].numpy()
    return cam / cam.max(axis=(1, 2), keepdims=True)


def check(cams: Cams, tolerance: float, cam: np.ndarray | None = None) -> None:
    """`cams` are HIGH_RES with classes in order; cam is the one given, else derived."""
    order = np.argsort(CLASSES)
    assert cams.class_ids.dtype == np.int64
    assert cams.class_ids.tolist() == [1, 8, 15]
    assert cams.cam.dtype == cams.high_res.dtype == np.float32
    assert cams.high_res.shape == (3, *SIZE)
    assert cams.cam.shape == (3, *STRIDE4)
    np.testing.assert_allclose(cams.high_res, HIGH_RES[order], atol=tolerance)
    expected = derived(HIGH_RES) if cam is None else cam
    np.testing.assert_allclose(cams.cam, expected[order], atol=2 * tolerance + 1e-6)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("cam_format", NPY_DIALECTS)
def test_every_dialect_reads_as_one(tmp_path: Path, cam_format: str, named: bool) -> None:
    path = tmp_path / "a.npy"
    write(path, cam_format)
    if not named and cam_format in ("psa", "psa_crf"):
        refused(path, r"psa .* or psa_crf .*--cam_format psa or --cam_format psa_crf")
        return
    cams = read(path, cam_format if named else "auto")
    check(cams, ROUNDED.get(cam_format, 0), CAM if cam_format in IRN_LIKE else None)


IRN_LIKE = ("irn", "amn")
ROUNDED = {"clip_es": 5e-4, "sfc": 1e-6}


@pytest.mark.parametrize("cam_format", ["auto", "oaa_png"])
def test_pngs_read_as_one(tmp_path: Path, cam_format: str) -> None:
    check(read(write_pngs(tmp_path, "a_1.x"), cam_format), 0.5 / 255)


@pytest.mark.parametrize("cam_format", ["auto", "drs"])
def test_drs_is_resized_and_only_its_nonzero_maps_are_present(
    tmp_path: Path, cam_format: str
) -> None:
    path = tmp_path / "a.npy"
    maps = write_drs(path)
    cams = read(path, cam_format)
    assert cams.class_ids.tolist() == [1, 8, 15]
    soft = torch.from_numpy(maps[sorted(CLASSES)].astype(np.float32) / 255)[None]
    expected = F.interpolate(soft, SIZE, mode="bilinear")[0].numpy()
    np.testing.assert_allclose(cams.high_res, expected, atol=1e-6)
    np.testing.assert_allclose(cams.cam, derived(expected), atol=1e-6)


def test_torch_or_numpy_or_lists_may_stand_for_any_field(tmp_path: Path) -> None:
    numpy_cam, torch_high_res = CAM.astype(np.float64), torch.from_numpy(HIGH_RES)
    for keys in (CLASSES, tuple(CLASSES), [np.int64(c) for c in CLASSES], np.array(CLASSES, "u1")):
        content = {"keys": keys, "cam": numpy_cam, "high_res": torch_high_res}
        check(read(save(tmp_path / "a.npy", content)), 0, CAM)
    tensors = {"keys": [torch.tensor(c) for c in CLASSES], "cam": torch.from_numpy(CAM)}
    check(read(save(tmp_path / "a.npy", {**tensors, "high_res": HIGH_RES})), 0, CAM)
    single = {"keys": torch.tensor(4), "high_res": HIGH_RES[:1]}
    assert read(save(tmp_path / "a.npy", single)).class_ids.tolist() == [5]


def test_maps_in_fortran_order_and_views_read_the_same(tmp_path: Path) -> None:
    for high_res in (np.asfortranarray(HIGH_RES), torch.from_numpy(HIGH_RES).flip(0).flip(0)):
        content = {"keys": CLASSES, "cam": CAM[::-1][::-1], "high_res": high_res}
        check(read(save(tmp_path / "a.npy", content)), 0, CAM)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_of_older_numpy_versions_read_the_same(tmp_path: Path, protocol: int) -> None:
    content = {"keys": torch.tensor(CLASSES), "cam": torch.from_numpy(CAM), "high_res": HIGH_RES}
    pickled = pickle.dumps(np.array(content, dtype=object), protocol=protocol)
    old = pickled.replace(b"cnumpy._core.", b"cnumpy.core.") if protocol < 4 else pickled
    header = io.BytesIO()
    np.save(header, np.array(None, dtype=object), allow_pickle=True)
    path = tmp_path / "a.npy"
    path.write_bytes(header.getvalue()[:128] + old)
    check(read(path), 0, CAM)


def test_big_endian_maps_read_the_same(tmp_path: Path) -> None:
    content = {"keys": CLASSES, "cam": CAM.astype(">f4"), "high_res": HIGH_RES.astype(">f8")}
    check(read(save(tmp_path / "a.npy", content)), 0, CAM)


NO_CLASS: list[tuple[str, Any]] = [
    ("irn", {"keys": torch.zeros(0, dtype=torch.int64)}),
    ("irn", {"keys": np.zeros(0)}),
    ("irn", {"keys": []}),
    ("irn", {"keys": [], "cam": torch.zeros(0, *STRIDE4), "high_res": np.zeros((0, *SIZE), "f4")}),
    ("irn", {"keys": [], "cam": np.zeros(0), "high_res": []}),
    ("amn", {"keys": [], "cam": torch.ones(1, *STRIDE4), "high_res": np.ones((1, *SIZE), "f4")}),
    ("sipe", {"keys": np.array([0]), "IS_CAM": np.ones((1, *SIZE), "f4")}),
    ("toco", {"keys": np.array([], int), "high_res": np.zeros((0, *SIZE), "f4")}),
    ("clip_es", {"keys": np.array([], int), "attn_highres": np.zeros((0, *SIZE), "f2")}),
    ("psa", {}),
    ("psa_crf", {0: np.ones(SIZE, "f4")}),
]


@pytest.mark.parametrize(("cam_format", "content"), NO_CLASS, ids=range(len(NO_CLASS)))
def test_no_class_means_all_background(tmp_path: Path, cam_format: str, content: Any) -> None:
    path = save(tmp_path / "a.npy", content)
    for name in [cam_format] if cam_format == "psa_crf" else [cam_format, "auto"]:
        cams = read(path, name)
        assert cams.class_ids.shape == (0,)
        assert cams.cam.shape == (0, *STRIDE4)
        assert cams.high_res.shape == (0, *SIZE)


def test_no_png_and_an_empty_drs_file_mean_all_background(tmp_path: Path) -> None:
    assert read([]).high_res.shape == (0, *SIZE)
    np.save(tmp_path / "a.npy", np.zeros((NUM_CLASSES, 320, 320), np.uint8))
    assert read(tmp_path / "a.npy").cam.shape == (0, *STRIDE4)


def test_a_map_dict_is_settled_by_its_keys_where_they_can(tmp_path: Path) -> None:
    maps = smooth_maps([3, 4])
    path = save(tmp_path / "a.npy", {3: maps[0], np.int64(19): maps[1]})
    assert read(path).class_ids.tolist() == [4, 20]
    save(path, {0: maps[0], 20: maps[1]})
    assert read(path).class_ids.tolist() == [20]
    refused(path, "unknown class 20", "psa")
    refused(save(path, {3: maps[0]}), "no background", "psa_crf")
    refused(save(path, {-1: maps[0]}), "unknown class -1", "psa")


def test_an_empty_map_stays_empty_when_the_small_one_is_derived(tmp_path: Path) -> None:
    high_res = HIGH_RES.copy()
    high_res[1] = 0
    cams = read(save(tmp_path / "a.npy", {"keys": CLASSES, "high_res": high_res}))
    assert cams.cam[0].max() == 0
    np.testing.assert_allclose(cams.cam[1:].max(axis=(1, 2)), 1)


@pytest.mark.parametrize("cam_format", NPY_DIALECTS)
def test_only_the_asked_part_is_read(tmp_path: Path, cam_format: str) -> None:
    path = tmp_path / "a.npy"
    write(path, cam_format)
    whole = read(path, cam_format)
    for parts in (("cam",), ("high_res",), ()):
        some = read(path, cam_format, parts=parts)
        np.testing.assert_array_equal(some.class_ids, whole.class_ids)
        for part in ("cam", "high_res"):
            expected = getattr(whole, part) if part in parts else np.zeros((3, 0, 0), np.float32)
            np.testing.assert_array_equal(getattr(some, part), expected)


def test_a_part_that_is_not_asked_for_is_not_judged_by_its_values(tmp_path: Path) -> None:
    content = {"keys": CLASSES, "cam": CAM, "high_res": HIGH_RES - 1}
    path = save(tmp_path / "a.npy", content)
    np.testing.assert_array_equal(read(path, parts=("cam",)).cam, CAM[np.argsort(CLASSES)])
    refused(path, "high_res has negative values")


def irn_content(**changes: Any) -> dict[str, Any]:
    return {"keys": CLASSES, "cam": CAM, "high_res": HIGH_RES, **changes}


def with_value(maps: np.ndarray, value: float) -> np.ndarray:
    changed = maps.copy()
    changed[1, 2, 3] = value
    return changed


BAD: list[tuple[str, Any, str]] = [
    ("auto", irn_content(cam=with_value(CAM, np.nan)), "cam has NaN or infinite"),
    ("auto", irn_content(high_res=with_value(HIGH_RES, np.nan)), "high_res has NaN or infinite"),
    ("auto", irn_content(high_res=with_value(HIGH_RES, np.inf)), "high_res has NaN or infinite"),
    ("auto", irn_content(high_res=with_value(HIGH_RES, -0.01)), "negative values, down to -0.01"),
    ("auto", irn_content(high_res=with_value(HIGH_RES, 1.01)), "values up to 1.01"),
    ("auto", irn_content(high_res=HIGH_RES.astype("f8") * 1e300), "values up to 1e"),
    ("auto", irn_content(high_res=(HIGH_RES * 255).astype("u1")), "uint8, not floating"),
    ("auto", irn_content(high_res=HIGH_RES[:, 1:]), r"shape \(3, 49, 67\).*needs \(3, 50, 67"),
    ("auto", irn_content(cam=CAM[:, :, 1:]), r"shape \(3, 13, 16\)"),
    ("auto", irn_content(cam=HIGH_RES), r"shape \(3, 50, 67\).*needs \(3, 13, 17"),
    ("auto", irn_content(high_res=HIGH_RES[0]), "not maps"),
    ("auto", irn_content(cam=CAM[None, :]), "1 channels for 3 keys"),
    ("auto", irn_content(cam=CAM[:2], high_res=HIGH_RES[:2]), "2 channels for 3 keys"),
    ("auto", irn_content(high_res=HIGH_RES[:2]), "2 channels, not 3"),
    ("auto", irn_content(cam=with_background(CAM)), "3 channels, not 4"),
    ("auto", irn_content(high_res=None), "no field high_res"),
    ("auto", irn_content(keys=[14, 0, 14]), "class twice"),
    ("auto", irn_content(keys=[14, 0, 20]), "unknown class 20"),
    ("auto", irn_content(keys=[14, 0, -1]), "unknown class -1"),
    ("auto", irn_content(keys=[14, 0, 2**70]), "unknown class"),
    ("auto", irn_content(keys=np.array([14.0, 0, 7])), "float64, not integers"),
    ("auto", irn_content(keys=["cat", "dog", "cow"]), "not integers"),
    ("auto", irn_content(keys=[True, False, 7]), "not integers"),
    ("auto", irn_content(keys=np.zeros((3, 3), int)), "not a list of classes"),
    ("auto", irn_content(keys=None), "not a list of classes"),
    ("auto", irn_content(keys=[]), "3 channels for 0 keys"),
    ("irn", irn_content(keys=[]), "keys name no class"),
    ("auto", {"cam": CAM, "high_res": HIGH_RES}, "keys is missing"),
    ("auto", {"keys": CLASSES}, "no known format"),
    ("auto", {"keys": CLASSES, "maps": HIGH_RES}, "fields: keys, maps"),
    ("auto", irn_content(IS_CAM=HIGH_RES), "marks of sipe and irn"),
    ("auto", {"keys": [0], "IS_CAM": 1, "attn_highres": 1}, "marks of sipe and clip_es"),
    ("auto", [1, 2], "holds a list"),
    ("auto", HIGH_RES, "float32 array of shape"),
    ("sipe", {"keys": [1, 2, 3], "IS_CAM": HIGH_RES}, "0, the background, exactly once"),
    ("sipe", {"keys": [0, 0, 3], "IS_CAM": HIGH_RES}, "0, the background, exactly once"),
    ("sipe", {"keys": [0, 2, 21], "IS_CAM": HIGH_RES}, "unknown class 21"),
    ("psa", {3: HIGH_RES}, "map 3 is a float32 array"),
    ("psa", {3: HIGH_RES[0, 1:]}, r"map 3 has shape \(49, 67\)"),
    ("psa", {3: "map"}, "map 3 is a str"),
    ("psa", {3: with_value(HIGH_RES, -1)[1]}, "map 3 has negative"),
    ("psa", irn_content(), "named fields"),
    ("psa", {3: HIGH_RES[0], "x": 1}, "named fields"),
    ("irn", {3: HIGH_RES[0]}, "keys is missing"),
    ("clip_es", irn_content(), "no field attn_highres.*--cam_format"),
    ("irn", HIGH_RES, "irn files hold a dict"),
    ("drs", HIGH_RES, "drs files hold uint8"),
    ("drs", irn_content(), "drs files hold uint8"),
    ("auto", np.zeros((20, 321, 320), np.uint8), r"\(20, 320, 320\)"),
    ("auto", np.zeros((19, 320, 320), np.uint8), r"\(20, 320, 320\)"),
    ("oaa_png", irn_content(), "oaa_png files are"),
]


@pytest.mark.parametrize(("cam_format", "content", "reason"), BAD, ids=range(len(BAD)))
def test_what_is_no_cam_is_refused(
    tmp_path: Path, cam_format: str, content: Any, reason: str
) -> None:
    path = tmp_path / "a.npy"
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        save(path, content)
    assert refused(path, reason, cam_format).endswith(".")


def test_a_little_above_one_is_rounding(tmp_path: Path) -> None:
    content = irn_content(high_res=with_value(HIGH_RES, 1.0005))
    assert read(save(tmp_path / "a.npy", content)).high_res.max() == np.float32(1.0005)


def test_hostile_cam_files_are_refused_with_the_path(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = tmp_path / "a.npy"
    refused(save(path, irn_content(more=Evil())), "system")
    refused(save(path, irn_content(more=np.array([1, None]))), "array of objects")
    write_irn_like(path)
    path.write_bytes(path.read_bytes()[:-3000])
    refused(path, "truncated")
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (20, 50000, 10000)}
        )
        claimed = file.tell()
    refused(path, "holds 0 bytes")
    os.truncate(path, claimed + 10**10)
    refused(path, "at most")
    (tmp_path / "elsewhere").mkdir()
    write_irn_like(tmp_path / "elsewhere" / "b.npy")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere" / "b.npy")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "c.npy").symlink_to(path)
    refused(tmp_path / "folder" / "c.npy", "link out of its folder")
    assert not (tmp_path / "ran").exists()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def test_bad_pngs_are_refused(tmp_path: Path) -> None:
    good = write_pngs(tmp_path, "a")
    whole = good[0].read_bytes()
    bad = tmp_path / "a_5.png"
    paths = [*good, bad]
    Image.new("L", (SIZE[1] - 1, SIZE[0])).save(bad)
    refused(paths, "a_5.png has height 50, width 66, but the image has height 50, width 67")
    for mode, reason in (("RGB", "mode RGB"), ("P", "mode P"), ("LA", "mode LA")):
        Image.new(mode, (SIZE[1], SIZE[0])).save(bad)
        refused(paths, reason)
    Image.new("I;16", (SIZE[1], SIZE[0])).save(bad)
    refused(paths, r"mode I")
    for content in (b"", whole[:20], whole[: len(whole) // 2], whole[:33] + bytes(100)):
        bad.write_bytes(content)
        refused(paths, "a_5.png is truncated")
    bad.write_bytes(b"GIF89a" + whole[6:])
    refused(paths, "not a PNG")
    huge = b"\x89PNG\r\n\x1a\n" + png_chunk(
        b"IHDR", (50_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    )
    bad.write_bytes(huge + png_chunk(b"IDAT", zlib.compress(bytes(10**6))))
    refused(paths, "truncated or damaged")
    bad.unlink()
    refused([*good, tmp_path / "a_20.png"], "unknown class 20")
    refused([*good, tmp_path / "b_1.png"], "of one image")
    refused([*good, good[0]], "class twice")
    refused(good, "irn files are .npy", "irn")
    bad.symlink_to("/etc/hostname")
    refused(paths, "link out of its folder")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2007_000032_4.png", ("2007_000032", 4)),
        ("2007_000032.png", None),
        ("a_b.c d_0.png", ("a_b.c d", 0)),
        ("größe_19.png", ("größe", 19)),
        ("COCO_train2014_000000000009_79.png", ("COCO_train2014_000000000009", 79)),
        ("COCO_train2014_000000000009.png", None),
        ("a_04.png", None),
        ("a_٣.png", None),
        ("_4.png", None),
        ("a_4.PNG.txt", None),
        ("a_4", None),
        ("a_crf.png", None),
        ("a_99999.png", None),
    ],
)
def test_names_of_png_cams(name: str, expected: tuple[str, int] | None) -> None:
    assert split_name(name) == expected


def test_a_folder_is_listed_once_and_knows_any_id(tmp_path: Path) -> None:
    ids = ["2007_000032", "a.b.c", "größe 1", "x", "x_1"]
    for image_id in ids[:3]:
        write_irn_like(cam_path(tmp_path, image_id))
    write_pngs(tmp_path, "x")
    write_pngs(tmp_path, "x_1")
    (tmp_path / "settings.json").write_text("{}")
    folder = CamFolder(tmp_path, num_classes=NUM_CLASSES)
    assert folder.ids() == sorted(ids)
    assert folder.find("2007_000032") == tmp_path / "2007_000032.npy"
    assert folder.find("x_1") == [tmp_path / f"x_1_{c}.png" for c in sorted(CLASSES)]
    assert folder.find("2007") is None
    assert folder.find("../x") is None
    check(folder.read("größe 1", SIZE), 0, CAM)
    check(folder.read("x", SIZE), 0.5 / 255)
    with pytest.raises(UserError, match=r"No CAM for nobody in .*nobody\.npy"):
        folder.read("nobody", SIZE)
    assert CamFolder(tmp_path, num_classes=20, cam_format="oaa_png").ids() == ["x", "x_1"]
    assert CamFolder(tmp_path, num_classes=20, cam_format="irn").ids() == sorted(ids[:3])


def test_an_image_without_a_png_has_no_class_where_the_format_is_named(tmp_path: Path) -> None:
    def folder(cam_format: str) -> CamFolder:
        return CamFolder(tmp_path, num_classes=NUM_CLASSES, cam_format=cam_format)

    write_irn_like(tmp_path / "y.npy")
    assert folder("oaa_png").find("empty") is None  # no such files: it says nothing of any image
    write_pngs(tmp_path, "x")
    assert folder("auto").find("empty") is None
    assert folder("irn").find("empty") is None
    assert folder("oaa_png").find("empty") == []
    assert folder("oaa_png").ids() == ["x"]
    cams = folder("oaa_png").read("empty", SIZE)
    assert cams.class_ids.shape == (0,)
    assert cams.high_res.shape == (0, *SIZE)


def test_an_id_with_both_kinds_of_files_is_ambiguous(tmp_path: Path) -> None:
    write_irn_like(tmp_path / "x.npy")
    write_pngs(tmp_path, "x")
    with pytest.raises(UserError, match=r"both x\.npy and x_<class>\.png"):
        CamFolder(tmp_path, num_classes=NUM_CLASSES).find("x")
    WRITERS["fma"](tmp_path, "y", CLASSES, HIGH_RES)
    write_irn_like(tmp_path / "y.npy")
    with pytest.raises(UserError, match=r"both y\.npy and y\.npz.*fma for \.npz"):
        CamFolder(tmp_path, num_classes=NUM_CLASSES).find("y")
    folder = CamFolder(tmp_path, num_classes=NUM_CLASSES, cam_format="fma")
    assert folder.find("y") == tmp_path / "y.npz"
    assert folder.ids() == ["y"]
    for cam_format in ("irn", "oaa_png"):
        folder = CamFolder(tmp_path, num_classes=NUM_CLASSES, cam_format=cam_format)
        assert folder.read("x", SIZE).class_ids.tolist() == [1, 8, 15]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder .*nowhere cannot be read"):
        CamFolder(tmp_path / "nowhere", num_classes=NUM_CLASSES)


@pytest.mark.parametrize("image_id", ["", "a/b", "../a", "/etc/passwd", "a\0b"])
def test_an_id_cannot_leave_the_folder(tmp_path: Path, image_id: str) -> None:
    with pytest.raises(UserError, match="cannot be a file name"):
        cam_path(tmp_path, image_id)


@OLD_TORCH_WARNS
@pytest.mark.parametrize("classes", [[], [3], [0, 7, 14]])
def test_what_is_written_is_what_the_irn_family_reads(tmp_path: Path, classes: list[int]) -> None:
    high_res = smooth_maps(classes)
    cams = Cams(np.array(classes, np.int64) + 1, high_res[:, ::4, ::4], high_res)
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        write_irn(file, cams)
    record = np.load(path, allow_pickle=True).item()  # written here: nothing foreign in it
    assert list(record) == ["keys", "cam", "high_res"]
    assert record["keys"].dtype == torch.int64
    assert record["keys"].tolist() == classes
    assert type(record["cam"]) is torch.Tensor
    assert record["cam"].dtype == torch.float32
    np.testing.assert_array_equal(record["cam"].numpy(), cams.cam)
    assert type(record["high_res"]) is np.ndarray
    assert record["high_res"].dtype == np.float32
    np.testing.assert_array_equal(record["high_res"], high_res)
    again = read(path)
    for part in ("class_ids", "cam", "high_res"):
        np.testing.assert_array_equal(getattr(again, part), getattr(cams, part))
    assert irn_record_bytes(again) == path.read_bytes()


def test_what_is_written_names_only_what_old_versions_know() -> None:
    cams = Cams(np.array([2], np.int64), np.ones((1, 1, 1), "f4"), np.ones((1, 4, 4), "f4"))
    operations = list(pickletools.genops(irn_record_bytes(cams)[128:]))
    assert {argument for code, argument, _ in operations if code.name == "GLOBAL"} == {
        "numpy.core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
        "torch._utils _rebuild_tensor_v2",
        "torch.storage _load_from_bytes",
        "collections OrderedDict",
    }
    assert max(code.proto for code, _, _ in operations) == 3


@pytest.mark.parametrize(
    ("ids", "cam", "reason"),
    [
        (np.array([2, 1]), np.zeros((2, 1, 1), "f4"), "ascending"),
        (np.array([0, 1]), np.zeros((2, 1, 1), "f4"), "ascending"),
        (np.array([1], np.int32), np.zeros((1, 1, 1), "f4"), "int64"),
        (np.array([1]), np.zeros((2, 1, 1), "f4"), "float32"),
        (np.array([1]), np.zeros((1, 1, 1)), "float32"),
        (np.array([1]), np.zeros((1, 1), "f4"), "float32"),
    ],
)
def test_a_record_keeps_its_word(ids: np.ndarray, cam: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Cams(ids, cam, np.zeros((len(ids), 1, 1), np.float32))


def test_classes_can_be_intersected(tmp_path: Path) -> None:
    write_irn_like(tmp_path / "a.npy")
    whole = read(tmp_path / "a.npy")
    some = whole.only([15, 3, 1])
    assert some.class_ids.tolist() == [1, 15]
    np.testing.assert_array_equal(some.high_res, whole.high_res[[0, 2]])
    assert whole.only([]).cam.shape == (0, *STRIDE4)


def test_the_reference_s_own_file_reads_as_recorded() -> None:
    path = GOLDEN / "g5_make_cam" / "2007_000001.npy"
    cams = read_cams(path, (188, 250), num_classes=20)
    expected = safe_load(path)
    assert cams.class_ids.tolist() == [1, 15]
    np.testing.assert_array_equal(cams.cam, expected["cam"].numpy())
    np.testing.assert_array_equal(cams.high_res, expected["high_res"])
    with pytest.raises(UserError, match=r"needs \(2, 47, 62\)"):
        read_cams(path, (188, 248), num_classes=20)


@pytest.mark.parametrize("image_id", [f"2007_{i:06d}" for i in (1, 4, 9, 11, 12)])
def test_the_recorded_cams_survive_writing_and_reading(tmp_path: Path, image_id: str) -> None:
    with np.load(GOLDEN / "plugged_cams" / f"{image_id}.npz") as recorded:
        keys, cam, high_res = (recorded[name] for name in ("keys", "cam", "high_res"))
    path = cam_path(tmp_path, image_id)
    with open(path, "wb") as file:
        write_irn(file, Cams(keys + 1, cam, high_res))
    cams = CamFolder(tmp_path, num_classes=20).read(image_id, high_res.shape[1:])
    assert stride4_size(high_res.shape[1:]) == cam.shape[1:]
    np.testing.assert_array_equal(cams.class_ids, keys + 1)
    np.testing.assert_array_equal(cams.cam, cam)
    np.testing.assert_array_equal(cams.high_res, high_res)


def test_reading_takes_milliseconds(tmp_path: Path) -> None:
    high_res = smooth_maps([3, 8], (500, 375))
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        write_irn(file, Cams(np.array([4, 9]), high_res[:, ::4, ::4], high_res))
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        read_cams(path, (500, 375), num_classes=20)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.02  # about 2 ms where nothing else runs


@pytest.mark.parametrize("boxed", [True, False])
def test_tags_of_strings_and_of_the_reference_s_integers(tmp_path: Path, boxed: bool) -> None:
    content = {
        2007000032: np.array([1, 0, 1], np.float32),
        "größe_1": [0, 1, 0],
        "COCO_train2014_000000000009": torch.tensor([0, 0, 0]),
        np.int64(2011003271): np.array([True, True, False]),
    }
    path = tmp_path / "cls_labels.npy"
    np.save(path, np.array(content, dtype=object) if boxed else content, allow_pickle=True)  # type: ignore[arg-type]
    tags = read_tags_file(path)
    assert {name: value.tolist() for name, value in tags.items()} == {
        "2007_000032": [1, 0, 1],
        "größe_1": [0, 1, 0],
        "COCO_train2014_000000000009": [0, 0, 0],
        "2011_003271": [1, 1, 0],
    }
    assert all(value.dtype == np.float32 for value in tags.values())


DOUBLED: Any = [0, 1]
for _ in range(15):
    DOUBLED = [DOUBLED] * 50  # more numbers than any memory holds, in a few hundred bytes


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "holds no"),
        ([1, 2], "a list"),
        ({9: [0, 1]}, "number 9 is not an image id"),
        ({-200700003: [0, 1]}, "not an image id"),
        ({2007000032: [0, 1], "2007_000032": [0, 1]}, "twice"),
        ({"a": [0, 1], "b": [0, 1, 0]}, r"lengths \[2, 3\]"),
        ({"a": [0, 2]}, "tags of 'a' are not a vector"),
        ({"a": [0, np.nan]}, "tags of 'a' are not a vector"),
        ({"a": [[0, 1]]}, "tags of 'a' are not a vector"),
        ({"a": DOUBLED}, "tags of 'a' are not a vector"),
        ({"a": 1}, "tags of 'a' are not a vector"),
        ({"a": "cat"}, "tags of 'a' are not a vector"),
        ({"a": {"b": 1}}, "tags of 'a' are not a vector"),
        ({"a": os.system}, "system"),
    ],
)
def test_bad_tag_files_are_refused(tmp_path: Path, content: Any, reason: str) -> None:
    path = save(tmp_path / "cls_labels.npy", content)
    with pytest.raises(UserError, match=reason) as caught:
        read_tags_file(path)
    assert str(path) in str(caught.value)


def test_an_unknown_format_is_the_caller_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of"):
        read(tmp_path / "a.npy", "cam")
