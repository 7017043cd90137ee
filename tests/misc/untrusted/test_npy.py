import builtins
import functools
import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from misc.errors import UserError
from misc.untrusted import StoredArray, open_npy, safe_load
from misc.untrusted.names import STORAGE_CODES
from tests.helpers.paths import GOLDEN, ROOT
from tests.helpers.pickles import F4, HEAD, array_pickle, as_npy

PROTOCOLS = [2, 3, 4, 5]


def boxed(content: Any) -> np.ndarray:
    box = np.empty((), object)
    box[()] = content
    return box


def save(path: Path, content: Any, protocol: int = 4) -> Path:
    """As np.save did over the years: protocol 2, then 3, now 4."""
    path.write_bytes(as_npy(pickle.dumps(boxed(content), protocol=protocol)))
    return path


def refused(path: Path, reason: str) -> str:
    with pytest.raises(UserError, match=reason) as caught:
        safe_load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


class Evil:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_back(tmp_path: Path, protocol: int) -> None:
    content = {
        "text": "Käse \N{GRINNING FACE}",
        "numbers": [0, 1, 255, 256, 65536, -1, 2**40, -(2**70), 0.5, True, False, None],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        7: {"nested": [{}]},
    }
    loaded = safe_load(save(tmp_path / "a.npy", content, protocol))
    assert loaded == content
    assert type(loaded["numbers"][9]) is bool


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", ["?", "i1", "u1", "<i8", "<f2", "<f4", "<f8", ">f4", ">i2"])
def test_numpy_arrays_come_back(tmp_path: Path, protocol: int, code: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(code)
    content = {
        "c": values,
        "fortran": np.asfortranarray(values),
        "view": values[:, ::2, 1:],
        "empty": values[:0],
        "0-d": values[0, 0, 1].reshape(()),
        "long": np.arange(5000).astype(code),
        "scalar": values[1, 1, 1],
    }
    loaded = safe_load(save(tmp_path / "a.npy", content, protocol))
    assert loaded.keys() == content.keys()
    for name, expected in content.items():
        assert loaded[name].dtype == expected.dtype
        assert loaded[name].shape == expected.shape
        np.testing.assert_array_equal(loaded[name], expected)
    assert type(loaded["scalar"]) is type(content["scalar"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", STORAGE_CODES.values())
def test_tensors_are_what_torch_load_gives(tmp_path: Path, protocol: int, code: str) -> None:
    dtype = torch.from_numpy(np.zeros(1, code)).dtype
    values = torch.arange(2 * 50 * 40).reshape(2, 50, 40).to(dtype)
    tensors = [
        values,
        values[1, 3:, ::2],
        values.transpose(0, 2),
        values[:0],
        values[0, 0, 3],
        torch.tensor([1, 0, 1]).to(dtype),
    ]
    loaded = safe_load(save(tmp_path / "a.npy", tensors, protocol))
    for ours, tensor in zip(loaded, tensors, strict=True):
        saved = io.BytesIO()
        torch.save(tensor, saved)
        saved.seek(0)
        expected = torch.load(saved, weights_only=True)
        assert type(ours) is torch.Tensor
        assert ours.dtype == expected.dtype
        assert ours.shape == expected.shape
        assert torch.equal(ours, expected)


class AnyNumpy(pickle.Unpickler):
    """Reads with NumPy 1 what NumPy 2 has written."""

    def find_class(self, module: str, name: str) -> Any:
        if np.lib.NumpyVersion(np.__version__) < "2.0.0":
            module = module.replace("numpy._core", "numpy.core")
        return super().find_class(module, name)


@pytest.mark.filterwarnings("ignore:You are using `torch.load`:FutureWarning")  # of old torch
def test_reads_the_reference_s_own_file() -> None:
    path = GOLDEN / "g5_make_cam" / "2007_000001.npy"  # made by the reference, in this repository
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        expected = AnyNumpy(file).load().item()
    loaded = safe_load(path)
    assert list(loaded) == ["keys", "cam", "high_res"]
    assert torch.equal(loaded["keys"], expected["keys"])
    assert torch.equal(loaded["cam"], expected["cam"])
    np.testing.assert_array_equal(loaded["high_res"], expected["high_res"])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.bool_, ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_arrays_come_back(tmp_path: Path, dtype: Any, order: Any) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(safe_load(tmp_path / "a.npy"), values)


def test_the_same_array_twice_is_one_array(tmp_path: Path) -> None:
    values = np.ones((300, 300), np.float32)
    loaded = safe_load(save(tmp_path / "a.npy", {"a": values, "b": values}))
    assert loaded["a"] is loaded["b"]


def test_an_array_that_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", {"small": np.ones(3), "large": np.ones((1000, 5000))})
    tracemalloc.start()
    with open_npy(path) as content:
        assert isinstance(content["large"], StoredArray)
        assert content["large"].shape == (1000, 5000)
        small = content["small"].read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(small, np.ones(3))
    assert peak < 2**20


class Sub(np.ndarray):
    pass


CODE = [
    (Evil(os.system, "touch {there}"), "system"),
    (Evil(subprocess.Popen, ["touch", "{there}"]), "Popen"),
    (Evil(builtins.eval, "open('{there}', 'w')"), "eval"),
    (Evil(builtins.exec, "open('{there}', 'w')"), "exec"),
    (Evil(open, "{there}", "w"), "open"),
    (Evil(getattr, Evil(__import__, "os"), "system"), "getattr|__import__"),
    (Evil(functools.partial, os.system, "touch {there}"), "partial"),
    (Evil(np.fromfile, "/etc/hostname"), "fromfile"),
    (Evil(np.load, "/etc/hostname"), "load"),
    (Evil(torch.load, "/etc/hostname"), "torch"),
    (Evil(torch.UntypedStorage.from_file, "/etc/hostname", False, 10), "getattr|Storage"),
    (Evil(Counter, "aab"), "Counter"),
    (Evil(bytearray, 10**10), "bytearray"),
    (Evil(bytes, 10**10), "damaged"),
    (torch.nn.Parameter(torch.ones(2)), "_rebuild_parameter"),
    (torch.ones(2).to_sparse(), "_rebuild_sparse_tensor"),
    (torch.ones(2, dtype=torch.bfloat16), "BFloat16Storage"),
    (torch.device("cpu"), "device"),
    ({1, 2}, "opcode|set"),
    (b"bytes", "bytes"),
    (1j, "complex"),
    (np.datetime64("2020-01-01"), "M8"),
    (np.array(["text"]), "U4"),
    (np.zeros(2, [("a", "f4")]), "records|V4"),
    (np.zeros(2).view(Sub), "Sub"),
    (np.array([1, "a"], object), "array of objects inside"),
    ({(1, 2): 3}, "tuple as key"),
    ({1.5: 3}, "float as key"),
    ({"f": np.ndarray}, "neither an array nor a number"),
    ({"f": np.dtype("f4")}, "neither an array nor a number"),
    (np.float32, "numpy.float32"),
    (Path("a"), "Path"),
    (Evil(np.ndarray, (10**6, 10**6)), "calls numpy.ndarray"),
]


def planted(value: Any, there: str) -> Any:
    """`value` with the path that it would touch if it ran."""
    if isinstance(value, str):
        return value.replace("{there}", there)
    if isinstance(value, Evil):
        function, arguments = value.call[:2]
        return Evil(function, *(planted(a, there) for a in arguments))
    return [planted(v, there) for v in value] if type(value) is list else value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("content", "reason"), CODE, ids=lambda value: str(value)[:20])
def test_everything_else_is_refused_by_name_and_not_run(
    tmp_path: Path, protocol: int, content: Any, reason: str
) -> None:
    there = tmp_path / "ran"
    path = save(tmp_path / "a.npy", {"keys": planted(content, str(there))}, protocol)
    message = refused(path, reason)
    assert "np.save" in message
    assert not there.exists()


OS_SYSTEM = b"cos\nsystem\n"
RAW = [
    (HEAD + OS_SYSTEM + b"X\x04\x00\x00\x00true\x85R.", "os.system"),
    (HEAD + b"(X\x04\x00\x00\x00trueios\nsystem\n.", "os.system"),
    (b"(S'true'\nios\nsystem\n.", "opcode b'S'"),
    (HEAD + b"\x8c\x02os\x8c\x06system\x93.", "os.system"),
    (HEAD + b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.", "__globals__"),
    (HEAD + b"\x8c\x05torch\x8c\x0dnn.functional\x93.", "torch.nn.functional"),
    (HEAD + b"ctorch\nFloatStorage\n.", "torch.FloatStorage"),
    (HEAD + b"K\x01\x85K\x02\x93.", "not a string"),
    (HEAD + b"\x82\x01.", "opcode"),
    (HEAD + b"}N\x81.", "opcode"),
    (HEAD + b"K\x01K\x01\x85R.", "calls a int"),
    (HEAD + b"cnumpy\nndarray\n)R.", "calls numpy.ndarray"),
    (HEAD + b"cnumpy\nndarray\n}b.", "state of a Name"),
    (HEAD + b"cnumpy\ndtype\n)Rb.", "damaged"),
    (HEAD + b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R}b.", "damaged array type"),
    (HEAD + b"K\x01Q.", "persistent id outside"),
    (HEAD + b"K\x01K\x02a.", "appends to a int"),
    (HEAD + b"K\x01K\x02K\x03s.", "items of a int"),
    (HEAD + b"}(K\x01u.", "damaged"),
    (HEAD + b"R.", "damaged"),
    (HEAD + b"e.", "damaged"),
    (HEAD + b"h\x07.", "damaged"),
    (HEAD + b"X\x02\x00\x00\x00\xff\xff.", "damaged"),
    (HEAD + b"K\x01.", "not what its header says"),
    (HEAD + b"cnumpy", "name does not end"),
    (HEAD + b"c" + b"a" * 400 + b"\nb\n.", "name does not end"),
    (HEAD + b"", "truncated"),
    (HEAD + b"\x1b[31m", "opcode"),
    (HEAD + b"c\x1b[31mred\nb\n.", r"\\x1b"),
    (HEAD + b"r\xff\xff\xff\xff.", "damaged"),
    (HEAD + b"K\x01r\xff\xff\xff\xff.", "header says"),
    (HEAD + b"\x8e" + struct.pack("<Q", 10**10), "10000000000 bytes are declared"),
    (HEAD + b"\x96" + struct.pack("<Q", 2**63), "truncated"),
    (HEAD + b"\x8d" + struct.pack("<Q", 10**10), "truncated"),
    (HEAD + b"B" + struct.pack("<I", 2**32 - 1), "truncated"),
    (HEAD + b"X" + struct.pack("<I", 2**32 - 1), "truncated"),
    (HEAD + b"\x95" + struct.pack("<Q", 2**63) + b"K\x01.", "header says"),
]


@pytest.mark.parametrize(("pickled", "reason"), RAW, ids=range(len(RAW)))
def test_hand_made_pickles_are_refused(tmp_path: Path, pickled: bytes, reason: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(as_npy(pickled))
    message = refused(path, reason)
    assert message.isprintable()


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        (b"K\x01\x85", F4, None),
        (b"K\x02\x85", F4, "8 bytes, but holds 4 bytes"),
        (b"J\x00\xe4\x0b\x54K\x10\x86", F4, "but holds 4 bytes"),
        (b"J\xff\xff\xff\xff\x85", F4, "not a whole number"),
        (b"\x8a\x05\x00\x00\x00\x00\x7f\x85", F4, "not a whole number"),
        (b"K\x01", F4, "shape int"),
        (b"(" + b"K\x01" * 9 + b"t", F4, "shape tuple"),
        (b"\x88\x85", F4, "not a whole number"),
        (b"K\x01\x85", F4.replace(b"f4", b"S4"), "type S4"),
        (b"K\x01\x85", F4.replace(b"f4", b"V4"), "type V4"),
        (b"K\x01\x85", F4.replace(b"f4", b"O4"), "type O4"),
        (b"K\x01\x85", F4.replace(b"f4", b"O8"), "type O8"),
        (b"K\x01\x85", b"N", "without a type"),
    ],
)
def test_claims_of_an_array_must_fit_its_bytes(
    tmp_path: Path, shape: bytes, dtype: bytes, reason: str | None
) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(as_npy(array_pickle(shape, dtype, b"C\x04\x00\x00\x80?")))
    if reason is None:
        np.testing.assert_array_equal(safe_load(path)[1], [1])
    else:
        refused(path, reason)


def tensor_file(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """A pickled tensor (2,3) of float32 after `change`; protocol 3 keeps lengths findable."""
    pickled = pickle.dumps(boxed({"cam": torch.arange(6.0).reshape(2, 3)}), protocol=3)
    changed = change(pickled)
    assert changed != pickled
    path.write_bytes(as_npy(changed))
    return path


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"K\x02K\x03\x86", b"K\x02K\x04\x86", "tensor of shape"),
        (b"K\x00K\x02K\x03\x86", b"K\x01K\x02K\x03\x86", "tensor of shape"),
        (b"K\x03K\x01\x86", b"K\x00K\x00\x86", None),
        (b"K\x02K\x03\x86", b"K\x09K\x09\x86", "tensor of shape"),
        (b"K\x03K\x01\x86", b"K\x03N\x86", "not a whole number"),
        (b"cpuq\x03K\x06N", b"cpuq\x03K\x07N", "stored"),
        (b"cpuq\x03K\x06N", b"cpuq\x03K\x06K", "damaged|known kind"),
        (b"ctorch\nFloatStorage", b"cposix\nFloatStorage", "posix.FloatStorage"),
        (b"ctorch\nFloatStorage", b"ctorch\nDoubleStorag", "torch.DoubleStorag"),
        (b"storageq\x00", b"modulesq\x00", "known kind"),
        (b"little_endianq\x02\x88", b"little_endianq\x02\x89", "big-endian"),
        (struct.pack("<q", 6), struct.pack("<q", 10**10), "10000000000 stored"),
        (b"\x8a\nl\xfc\x9cF", b"\x8a\nl\xfc\x9cG", "format that torch does not pickle"),
    ],
)
def test_claims_of_a_tensor_must_fit_its_storage(
    tmp_path: Path, old: bytes, new: bytes, reason: str | None
) -> None:
    path = tensor_file(tmp_path / "a.npy", lambda pickled: pickled.replace(old, new))
    if reason is None:
        np.testing.assert_array_equal(safe_load(path)["cam"], np.zeros((2, 3)))
    else:
        refused(path, reason)


def test_a_storage_in_torch_s_zip_format_is_refused(tmp_path: Path) -> None:
    saved = io.BytesIO()
    torch.save(torch.zeros(10), saved)
    content = Evil(torch.storage._load_from_bytes, saved.getvalue())
    refused(save(tmp_path / "a.npy", content), "opcode b'P'")


def test_a_storage_does_not_smuggle_code(tmp_path: Path) -> None:
    inner = pickle.dumps(Evil(os.system, f"touch {tmp_path / 'ran'}"), protocol=2)
    content = Evil(torch.storage._load_from_bytes, inner)
    refused(save(tmp_path / "a.npy", content), "system")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cut", [0, 1, 5, 7, 9, 50, 127, 128, 129, 200, 500, 10_000, -2, -1])
def test_truncated_files_are_named(tmp_path: Path, cut: int) -> None:
    whole = (GOLDEN / "g5_make_cam" / "2007_000001.npy").read_bytes()
    path = tmp_path / "cut.npy"
    path.write_bytes(whole[:cut])
    refused(path, "empty|truncated|does not start")
    path.write_bytes(whole + b"more")
    refused(path, "4 bytes after its end")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_gives_data_or_a_user_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = {"keys": np.arange(2), "cam": torch.ones(2, 3, 4), 3: [1.5, "a", (None, True)]}
    path = save(tmp_path / "a.npy", content, [2, 3, 4][seed % 3])
    damaged = bytearray(path.read_bytes())
    outcomes = set()
    for _ in range(50):
        at = int(rng.integers(128, len(damaged)))
        kept, damaged[at] = damaged[at], int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            outcomes.add(type(safe_load(path)))
        except UserError:
            outcomes.add(UserError)
        damaged[at] = kept
    assert UserError in outcomes


def header(shape: str, descr: str = "'<f4'", more: str = "") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {more}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header("(2500000000,)"), "not a whole number"),
        (header("(20, 12500, 10000)"), "10000000000 bytes, but holds 0"),
        (header("(2,)") + bytes(9), "8 bytes, but holds 9"),
        (header("(99999999999999999999,)"), "header"),
        (header("(1,)", "'|O'"), "array of objects of shape"),
        (header("(1,)", "'<U9'"), "type U9"),
        (header("(1,)", "[('a', '<f4')]"), "header"),
        (header("__import__('os').system('true')"), "header"),
        (header("()", more="'x': 1, "), "header"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1), "header claims 4294967295"),
        (b"\x93NUMPY\x03\x00" + bytes(100), "version 3"),
        (b"\x80\x04K\x01.", "does not start"),
        (b"", "empty"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    refused(path, reason)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("keys.npy", bytes(50_000_000))
    tracemalloc.start()
    refused(path, "zip archive")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_file_of_ten_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        file.write(header("(20, 12500, 10000)"))
        file.truncate(10**10 + file.tell())
    refused(path, "at most 1073741824")


def test_text_that_is_encoded_again_and_again_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    encode = b"c_codecs\nencode\nq\x00" + text + b"X\x06\x00\x00\x00latin1\x86q\x01R"
    path.write_bytes(as_npy(HEAD + b"](" + encode + b"h\x00h\x01R" * 1000 + b"e."))
    refused(path, "more bytes than it has")


def test_arrays_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    state = b"(K\x01" + b"J" + struct.pack("<i", 25_000) + b"\x85" + F4 + b"\x89"
    state += b"B" + struct.pack("<I", 100_000) + bytes(100_000) + b"tq\x02"
    make = b"cnumpy.core.multiarray\n_reconstruct\nq\x00(cnumpy\nndarray\nK\x00\x85C\x01btq\x01R"
    again = b"h\x00h\x01Rh\x02b" * 1000
    first = make + state + b"b"
    pickled = array_pickle(b"K\x01\x85", F4, b"C\x04\x00\x00\x80?")
    start = pickled.index(b"cnumpy.core", pickled.index(b"](}"))
    pickled = pickled[:start] + b"](" + first + again + b"eue" + b"tb."
    path.write_bytes(as_npy(pickled))
    refused(path, "larger than the file")


def test_nesting_and_length_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    deep: Any = []
    for _ in range(30):
        deep = [deep]
    refused(save(path, deep), "nested more than 20 levels deep")
    path.write_bytes(as_npy(HEAD + b")" + b"\x85" * 200_000 + b"}\x86."))
    refused(path, "header says")
    path.write_bytes(as_npy(HEAD + b"})" + b"\x85" * 200_000 + b"Ns."))
    refused(path, "tuple as key")
    path.write_bytes(as_npy(HEAD + b")" + b"\x85" * 200_000 + b"\x8c\x01a\x93."))
    refused(path, "not a string")
    path.write_bytes(as_npy(HEAD + b"]" * 2_000))
    with pytest.raises(UserError, match="more than 1000 pickle opcodes"):
        safe_load(path, max_opcodes=1000)


def test_a_list_that_holds_itself_ends(tmp_path: Path) -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    loaded = safe_load(save(tmp_path / "a.npy", {"loop": loop}))
    assert loaded["loop"][1] is loaded["loop"]


def test_only_regular_files_of_the_folder_are_read(tmp_path: Path) -> None:
    outside = save(tmp_path / "outside.npy", {"a": 1})
    folder = tmp_path / "folder"
    folder.mkdir()
    inside = save(folder / "inside.npy", {"a": 2})
    (folder / "out.npy").symlink_to(outside)
    (folder / "in.npy").symlink_to("inside.npy")
    (folder / "loop.npy").symlink_to("loop.npy")
    (folder / "folder.npy").mkdir()
    os.mkfifo(folder / "pipe.npy")
    (tmp_path / "linked").symlink_to(folder)
    assert str(outside) in refused(folder / "out.npy", "link out of its folder")
    refused(folder / "folder.npy", "not a regular file")
    refused(folder / "pipe.npy", "not a regular file")
    refused(folder / "missing.npy", "No file")
    refused(folder / "loop.npy", "cannot be read")
    assert safe_load(folder / "in.npy") == {"a": 2}
    assert safe_load(tmp_path / "linked" / "inside.npy") == {"a": 2}
    assert safe_load(inside) == {"a": 2}


def test_reading_does_not_import_torch_or_the_named_modules(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(as_npy(HEAD + b"cantigravity\nfly\n."))
    script = (
        "import sys\nfrom pathlib import Path\nimport misc.cam_files\n"
        "from misc.errors import UserError\n"
        "from misc.untrusted import safe_load\n"
        f"try:\n    safe_load(Path({str(path)!r}))\n"
        "except UserError as error:\n    assert 'antigravity.fly' in str(error)\n"
        "    sys.exit(1 if {'antigravity', 'torch'} & set(sys.modules) else 0)\nsys.exit(2)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT)
    assert done.returncode == 0
