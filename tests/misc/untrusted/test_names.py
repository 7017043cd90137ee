"""What a hostile pickle nests is neither compared, nor shown, nor unfolded."""

import struct
from pathlib import Path

import pytest

from misc.errors import UserError
from misc.untrusted import TORCH_MAGIC, TORCH_PROTOCOL, safe_load
from misc.untrusted.names import NAMES, STORAGE_NAMES
from tests.helpers.pickles import F4, array_pickle, as_npy, boxed_pickle

# A tuple in a tuple in a tuple: comparing and showing it recurse in C.
DEEP = b")" + b"\x85" * 900
# A list that holds itself.
LOOP = b"]q\x00h\x00a"
# A pair of pairs of pairs: 120 opcodes whose text has 2**60 characters.
DOUBLED = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
ENDLESS = {"deep": DEEP, "loop": LOOP, "doubled": DOUBLED}


def storage(key: bytes) -> bytes:
    """What torch.save makes of a float32 storage of one number, `key` in place of its name."""
    identity = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + key
    pickles = (
        b"\x8a\x0a" + TORCH_MAGIC.to_bytes(10, "little"),
        b"M" + struct.pack("<H", TORCH_PROTOCOL),
        b"}(X\x0d\x00\x00\x00little_endian\x88u",
        identity + b"X\x03\x00\x00\x00cpuK\x01NtQ",
        b"]" + key + b"a",
    )
    content = b"".join(b"\x80\x02" + pickle + b"." for pickle in pickles)
    return content + struct.pack("<qf", 1, 0.5)


def tensor(key: bytes) -> bytes:
    numbers = storage(key)
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n"
    made += b"B" + struct.pack("<I", len(numbers)) + numbers + b"\x85R"
    return made + b"K\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"


def refused(path: Path, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        safe_load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_storage_with_a_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(as_npy(boxed_pickle(tensor(b"X\x01\x00\x00\x000"))))
    assert safe_load(path).tolist() == [0.5]


@pytest.mark.parametrize("name", ENDLESS)
def test_a_storage_named_by_something_endless_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(as_npy(boxed_pickle(tensor(ENDLESS[name]))))
    refused(path, "whose storage has no name")


@pytest.mark.parametrize("name", ENDLESS)
def test_an_array_of_an_endless_type_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npy"
    dtype = F4.replace(b"X\x02\x00\x00\x00f4", ENDLESS[name])
    path.write_bytes(as_npy(array_pickle(b"K\x01\x85", dtype, b"C\x04\x00\x00\x80?")))
    refused(path, "array of type (tuple|list)")


def test_what_a_pickle_may_ask_for_is_these_names_and_no_other() -> None:
    """Each new one is a decision: what it makes must execute nothing that a file says."""
    calls = {key: name.make for key, name in NAMES.items()}
    assert {
        ".".join(key): None if make is None else make.__name__ for key, make in calls.items()
    } == {
        "numpy.ndarray": None,
        "numpy.dtype": "DTypeDraft",
        "numpy.core.multiarray._reconstruct": "_make_array",
        "numpy._core.multiarray._reconstruct": "_make_array",
        "numpy.core.multiarray.scalar": "_make_scalar",
        "numpy._core.multiarray.scalar": "_make_scalar",
        "numpy.core.numeric._frombuffer": "_array_from_buffer",
        "numpy._core.numeric._frombuffer": "_array_from_buffer",
        "_codecs.encode": "_encode",
        "__builtin__.bytes": "<lambda>",
        "builtins.bytes": "<lambda>",
        "collections.OrderedDict": "<lambda>",
        "torch._utils._rebuild_tensor_v2": "_make_tensor",
        "torch.storage._load_from_bytes": "_read_storage",
    }
    for key, make in calls.items():
        assert make is None or make.__module__ == "misc.untrusted.names", key
    made = {key: make() for key, make in calls.items() if make and make.__name__ == "<lambda>"}
    assert made == {
        ("__builtin__", "bytes"): b"",
        ("builtins", "bytes"): b"",
        ("collections", "OrderedDict"): {},
    }
    kinds = ("Double", "Float", "Half", "Long", "Int", "Short", "Char", "Byte", "Bool")
    assert {(key, name.make) for key, name in STORAGE_NAMES.items()} == {
        ((module, f"{kind}Storage"), None) for module in ("torch", "torch.cuda") for kind in kinds
    }
