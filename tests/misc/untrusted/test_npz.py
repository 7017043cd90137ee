"""Archives of arrays: lazily read, and refused where np.savez would not have written them."""

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misc.errors import UserError
from misc.untrusted import open_npz
from tests.helpers.memory import MIB, bounded_memory

VALUES = np.arange(24).reshape(2, 3, 4)


def read(path: Path, **limits: int) -> dict[str, np.ndarray]:
    with open_npz(path, **limits) as arrays:
        return {name: array.read() for name, array in arrays.items()}


def refused(path: Path, reason: str, **limits: int) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        read(path, **limits)
    assert str(path) in str(caught.value)


def npy(array: Any, *, is_object: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=is_object)
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("code", ["?", "u1", "<i8", "<f2", ">f4", "<f8"])
def test_arrays_come_back_in_any_order_and_twice(tmp_path: Path, save: Any, code: str) -> None:
    path = tmp_path / "a.npz"
    expected = {
        "b": VALUES.astype(code),
        "a": np.asfortranarray(VALUES.astype(code)),
        "e": VALUES[:0],
    }
    save(path, **expected)
    with open_npz(path) as arrays:
        assert arrays.keys() == expected.keys()
        for name in ("a", "b", "e", "a"):
            assert arrays[name].shape == expected[name].shape
            assert arrays[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(arrays[name].read(), expected[name])


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_a_pickled_member_is_refused_and_not_run(tmp_path: Path) -> None:
    path, ran = tmp_path / "a.npz", tmp_path / "ran"
    np.savez(path, cam=VALUES, evil=np.array([Evil(ran)], dtype=object))
    refused(path, "its array evil: it has an array of type O, which is not plain numbers")
    archive(path, {"cam.npy": npy(VALUES), "code.pkl": b"cos\nsystem\n(S'true'\ntR."})
    refused(path, "member named code.pkl, which is no array of np.savez")
    assert not ran.exists()


@pytest.mark.parametrize(
    "name",
    ["../cam.npy", "/etc/cam.npy", "a/cam.npy", "a\\cam.npy", "cam", "c m.npy", ".npy", "ä.npy"],
)
def test_names_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    refused(archive(tmp_path / "a.npz", {name: npy(VALUES)}), "which is no array of np.savez")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("cam.npy", npy(VALUES))
        file.writestr("cam.npy", npy(VALUES))
    refused(path, "two arrays named cam")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"cam.npy": npy(np.zeros(50 * MIB, np.uint8))})
    assert path.stat().st_size < MIB
    with bounded_memory(10 * MIB):
        refused(
            path, "would unpack to 52428928 bytes, but such a file holds at most", max_bytes=MIB
        )


def test_an_array_that_nobody_reads_stays_packed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, cam=VALUES, logits=np.zeros(50 * MIB, np.uint8))
    with bounded_memory(10 * MIB), open_npz(path) as arrays:
        np.testing.assert_array_equal(arrays["cam"].read(), VALUES)


def test_what_announces_less_than_it_holds_gives_no_more_than_that(tmp_path: Path) -> None:
    """zipfile unpacks as many bytes as the directory says, and misses the checksum."""
    whole = npy(np.zeros(50 * MIB, np.uint8))
    path = archive(tmp_path / "a.npz", {"cam.npy": npy(np.zeros(1000, np.uint8)) + whole})
    content = path.read_bytes()
    real, told = (struct.pack("<L", n) for n in (1128 + len(whole), 1128))
    assert content.count(real) == 2
    path.write_bytes(content.replace(real, told))
    with bounded_memory(10 * MIB):
        refused(path, "it is damaged")


def test_a_directory_of_a_million_members_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    entry = b"PK\1\2" + bytes(42)
    count = 10 * MIB // len(entry)
    end = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, count % 65536, count % 65536, count * len(entry), 0, 0
    )
    path.write_bytes(entry * count + end)
    with bounded_memory(5 * MIB):
        refused(path, "which an .npz never needs")


def test_a_second_larger_directory_is_not_believed(tmp_path: Path) -> None:
    content = archive(tmp_path / "a.npz", {"cam.npy": npy(VALUES)}).read_bytes()
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    (tmp_path / "a.npz").write_bytes(content[:-22] + locator + content[-22:])
    refused(tmp_path / "a.npz", "does not end as np.savez ends one")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(tmp_path: Path, method: int) -> None:
    path = archive(tmp_path / "a.npz", {"cam.npy": npy(VALUES)}, method)
    refused(path, "array cam is packed in a way that np.savez does not use")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"cam.npy": npy(VALUES)})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(path, "array cam is packed in a way that np.savez does not use")


def test_damage_is_named_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    random = np.random.default_rng(0).integers(0, 255, 10_000, np.uint8)
    np.savez_compressed(path, cam=random)
    whole = path.read_bytes()
    for content, reason in (
        (b"", "empty or truncated"),
        (whole[:30], "empty or truncated"),
        (whole[: len(whole) // 2], "truncated or no .npz"),
        (b"no archive " * 100, "truncated or no .npz"),
        (whole[:-1] + b"x", "truncated or no .npz"),
        (whole[:5000] + bytes(500) + whole[5500:], "damaged|header"),
        (whole.replace(b"PK\1\2", b"PK\1\3"), "damaged"),
        (whole.replace(b"PK\3\4", b"PK\3\5"), "damaged"),
    ):
        path.write_bytes(content)
        refused(path, reason)
    lies = {"cam.npy": npy(random).replace(b"(10000,)", b"(90000,)")}
    refused(archive(path, lies), "its array cam: .*but holds 10000 bytes")


def test_cuts_and_flips_end_in_a_message_or_in_the_same_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    expected = {"cam": VALUES, "fg_cls": np.array([3])}
    np.savez_compressed(path, **expected)  # type: ignore[arg-type]
    whole, rng, messages = path.read_bytes(), np.random.default_rng(0), 0
    for trial in range(300):
        content = bytearray(whole)
        if trial < 100:
            content = content[: rng.integers(len(whole))]
        else:
            for at in rng.integers(len(whole), size=1 + trial % 3):
                content[at] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            arrays = read(path, max_bytes=MIB)
        except UserError:
            messages += 1
            continue
        assert arrays.keys() == expected.keys()
        assert all((arrays[name] == expected[name]).all() for name in expected)
    assert 150 < messages < 300


def test_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "a.npz", cam=VALUES)
    (tmp_path / "folder" / "b.npz").symlink_to(tmp_path / "a.npz")
    refused(tmp_path / "folder" / "b.npz", "link out of its folder")
