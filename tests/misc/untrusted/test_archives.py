import io
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.errors import UserError
from misc.untrusted import unpack_pngs


def png(value: int = 7) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "set.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sets" / "set"


def write(archive: Path, **entries: bytes) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)


def refused(archive: Path, folder: Path, reason: str) -> None:
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(UserError, match=reason) as caught:
        unpack_pngs(archive, folder)
    assert str(archive) in str(caught.value)
    assert sorted(set(archive.parent.rglob("*")) - {folder.parent}) == before


def test_pngs_come_out_flat(archive: Path, folder: Path) -> None:
    entries = {
        "set/2007_000032_1.png": png(1), "set/2007_000032_14.png": png(2), "set/readme.txt": b"hi",
        "__MACOSX/set/._2007_000032_1.png": b"junk",
    }  # fmt: skip
    with zipfile.ZipFile(archive, "w") as file:
        file.mkdir("set") if hasattr(file, "mkdir") else file.writestr("set/", "")
        for name, content in entries.items():
            file.writestr(name, content)
    assert unpack_pngs(archive, folder) == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        "2007_000032_1.png", "2007_000032_14.png",
    ]  # fmt: skip
    assert (folder / "2007_000032_14.png").read_bytes() == png(2)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["set"]


@pytest.mark.parametrize(
    "name", ["../a.png", "set/../../a.png", "/tmp/a.png", "..\\a.png", "C:\\a.png", "C:a.png"]
)
def test_nothing_leaves_the_folder(archive: Path, folder: Path, name: str) -> None:
    write(archive, **{"fine.png": png(), name: png(2)})
    before = {*archive.parent.rglob("*"), *folder.parents}
    assert unpack_pngs(archive, folder) == 2
    assert set(archive.parent.rglob("*")) - before == {
        folder, folder / "fine.png", folder / "a.png",
    }  # fmt: skip


def test_a_name_cut_at_a_zero_is_not_a_png(archive: Path, folder: Path) -> None:
    write(archive, **{"aXpng.png": png(), "b.png": png()})
    archive.write_bytes(archive.read_bytes().replace(b"aXpng.png", b"a\0png.png"))
    assert unpack_pngs(archive, folder) == 1


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_files_without_a_picture(
    archive: Path, folder: Path, kind: int
) -> None:
    entry = zipfile.ZipInfo("a.png")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(entry, "/etc/passwd")
    refused(archive, folder, "is not a PNG")


def test_one_name_twice(archive: Path, folder: Path) -> None:
    write(archive, **{"a/1.png": png(), "b/1.png": png()})
    refused(archive, folder, r"two files named 1\.png")


def test_bombs(archive: Path, folder: Path) -> None:
    write(archive, **{f"{i}.png": b"\0" * 3_000_000 for i in range(4)})
    assert archive.stat().st_size < 20_000
    refused(archive, folder, "ZIP bomb")


def test_a_bomb_that_lies_about_its_size(archive: Path, folder: Path) -> None:
    write(archive, **{"a.png": png() + b"\0" * 3_000_000})
    content = archive.read_bytes()
    true, lie = (struct.pack("<I", n) for n in (len(png()) + 3_000_000, 1000))
    assert content.count(true) == 2
    archive.write_bytes(content.replace(true, lie))
    refused(archive, folder, "is damaged")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no_zip", "empty"])
def test_damage(archive: Path, folder: Path, damage: str) -> None:
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", png() + bytes(range(250)) * 20)
    content = archive.read_bytes()
    flipped = content[:1000] + bytes([content[1000] ^ 255]) + content[1001:]
    damaged = {"truncated": content[:-200], "flipped": flipped, "no_zip": b"<html>", "empty": b""}
    archive.write_bytes(damaged[damage])
    refused(archive, folder, "is damaged")


def test_encrypted_entries(archive: Path, folder: Path) -> None:
    write(archive, **{"a.png": png()})
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, folder, "encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packing_than_deflate(archive: Path, folder: Path, method: int) -> None:
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("a.png", png() + bytes(5000))
    content = bytearray(archive.read_bytes())
    content[60:90] = bytes(30)  # damage, of which their readers tell by errors of their own
    archive.write_bytes(content)
    refused(archive, folder, rf"compresses a\.png with method {method}")


def test_an_entry_behind_the_end(archive: Path, folder: Path) -> None:
    """With 64-bit offsets: the system refuses to go there, as it does on a broken disk."""
    write(archive, **{"a.png": png()})
    content = archive.read_bytes()
    entry, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    central, tail = bytearray(content[entry:end]), bytearray(content[end:])
    offset = struct.pack("<HHQ", 1, 8, 2**62)
    central[30:32], central[42:46] = struct.pack("<H", len(offset)), b"\xff" * 4
    tail[12:16] = struct.pack("<I", len(central) + len(offset))
    archive.write_bytes(content[:entry] + central + offset + tail)
    refused(archive, folder, "is damaged")


def test_what_only_calls_itself_png(archive: Path, folder: Path) -> None:
    write(archive, **{"a.png": b"#!/bin/sh"})
    refused(archive, folder, r"a\.png is not a PNG")


def test_an_archive_without_png(archive: Path, folder: Path) -> None:
    write(archive, **{"a.txt": b"hi"})
    refused(archive, folder, "no PNG file")


def test_a_disk_too_small(archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(archive, **{"a.png": png()})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1))
    with pytest.raises(UserError, match="Free some space"):
        unpack_pngs(archive, folder)
    assert not folder.exists()


def test_an_existing_folder_is_left_alone(archive: Path, folder: Path) -> None:
    write(archive, **{"a.png": png()})
    folder.mkdir(parents=True)
    (folder / "mine.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        unpack_pngs(archive, folder)
    assert (folder / "mine.png").read_bytes() == b"mine"


def test_what_an_interrupted_run_left_is_replaced(archive: Path, folder: Path) -> None:
    write(archive, **{"a.png": png()})
    left = folder.parent / ".set.unpacking"
    left.mkdir(parents=True)
    (left / "b.png").write_bytes(b"half")
    unpack_pngs(archive, folder)
    assert [path.name for path in folder.iterdir()] == ["a.png"]
    assert not left.exists()
