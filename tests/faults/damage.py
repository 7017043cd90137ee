"""Ways to damage a file or a folder of a probe's copy: each makes a function of that copy's folder.

The copy shares its files with the others by hard links: what changes is written anew.
"""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.cam_writers import save

Damage = Callable[[Path], object]


def nothing(_here: Path) -> None:
    """All is as it was: the flags are what is wrong."""


def both(*damages: Damage) -> Damage:
    def damage(here: Path) -> None:
        for each in damages:
            each(here)

    return damage


def edited(path: str, change: Callable[[bytes], bytes]) -> Damage:
    """Other bytes, in a file of its own."""

    def damage(here: Path) -> None:
        put(here / path, change((here / path).read_bytes()))

    return damage


def put(path: Path, content: bytes) -> None:
    _clear(path)
    path.write_bytes(content)


def _clear(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def gone(path: str) -> Damage:
    return lambda here: _clear(here / path)


def raw(path: str, content: bytes) -> Damage:
    return lambda here: put(here / path, content)


def text(path: str, content: str) -> Damage:
    return raw(path, content.encode())


def empty(path: str) -> Damage:
    return raw(path, b"")


def cut(path: str, share: float = 0.5) -> Damage:
    """The end is missing."""
    return edited(path, lambda old: old[: int(len(old) * share)])


def cut_but_ended(path: str) -> Damage:
    """A JPEG whose second half is missing, with an end mark."""
    return edited(path, lambda old: old[: len(old) // 2] + b"\xff\xd9")


def flipped(path: str, at: float = 0.5, count: int = 8) -> Damage:
    """Some bytes in the middle are inverted."""

    def flip(old: bytes) -> bytes:
        start = int(len(old) * at)
        middle = bytes(255 - byte for byte in old[start : start + count])
        return old[:start] + middle + old[start + count :]

    return edited(path, flip)


def replaced(path: str, old: str, new: str) -> Damage:
    """Some text stands for another; it must be there."""

    def replace(content: bytes) -> bytes:
        assert old.encode() in content, (path, old)
        return content.replace(old.encode(), new.encode())

    return edited(path, replace)


def appended(path: str, more: str) -> Damage:
    return edited(path, lambda old: old + more.encode())


def folder(path: str) -> Damage:
    """A folder in the file's place."""

    def damage(here: Path) -> None:
        _clear(here / path)
        (here / path).mkdir(parents=True)

    return damage


def fifo(path: str) -> Damage:
    """A pipe that nobody writes to: who opens it waits for ever."""

    def damage(here: Path) -> None:
        _clear(here / path)
        os.mkfifo(here / path)

    return damage


def linked(path: str, target: str) -> Damage:
    """A symbolic link, to a place beside it, below `/`, or that does not exist."""

    def damage(here: Path) -> None:
        _clear(here / path)
        (here / path).symlink_to(target)

    return damage


def dangling(path: str) -> Damage:
    return linked(path, "nowhere")


def device(path: str) -> Damage:
    """An endless device."""
    return linked(path, "/dev/zero")


def unreadable(path: str) -> Damage:
    """No permission; the probe runs as somebody without root's rights."""

    def damage(here: Path) -> None:
        target = here / path
        if target.is_file():
            put(target, target.read_bytes())
        target.chmod(0)

    return damage


def read_only(path: str) -> Damage:
    """A folder without permission to write."""
    return lambda here: (here / path).chmod(stat.S_IRUSR | stat.S_IXUSR)


def picture(path: str, mode: str = "RGB", size: tuple[int, int] | None = None) -> Damage:
    """A picture of another mode or size (W,H) in the place of one."""

    def damage(here: Path) -> None:
        with Image.open(here / path) as old:
            gray = old.convert("L") if mode.startswith("I") else old
            changed = gray.convert(mode).resize(old.size if size is None else size)
            kind = old.format
        _clear(here / path)
        changed.save(here / path, format=kind)

    return damage


def pixels(path: str, value: int, *, everywhere: bool = False) -> Damage:
    """A corner of a mask, or all of it, has another value."""

    def damage(here: Path) -> None:
        with Image.open(here / path) as old:
            changed, palette = np.array(old), old.getpalette()
        changed[(slice(None) if everywhere else slice(5), slice(None))] = value
        _clear(here / path)
        made = Image.fromarray(changed)
        if palette is not None:
            made.putpalette(palette)
        made.save(here / path, format="PNG")

    return damage


def array(path: str, values: Any) -> Damage:
    """A plain array of numpy's in the file's place."""

    def damage(here: Path) -> None:
        _clear(here / path)
        np.save(here / path, values)

    return damage


def changed_fields(path: str, **changes: Callable[[Any], Any] | None) -> Damage:
    """Fields of a dict in a .npy are changed, or left out (None)."""

    def damage(here: Path) -> None:
        content = np.load(here / path, allow_pickle=True).item()
        for name, change in changes.items():
            if change is None:
                del content[name]
            else:
                content[name] = change(content.get(name))
        _clear(here / path)
        save(here / path, content)

    return damage


def changed_json(path: str, change: Callable[[Any], Any]) -> Damage:
    """A JSON after `change`, which may change it in place."""

    def edit(old: bytes) -> bytes:
        content = json.loads(old)
        result = change(content)
        return json.dumps(content if result is None else result).encode()

    return edited(path, edit)


def copied(source: str, target: str) -> Damage:
    def damage(here: Path) -> None:
        _clear(here / target)
        if (here / source).is_dir():
            shutil.copytree(here / source, here / target, copy_function=os.link)
        else:
            shutil.copyfile(here / source, here / target)

    return damage


def moved(source: str, target: str) -> Damage:
    return lambda here: os.replace(here / source, here / target)


def for_each(pattern: str, way: Callable[[str], Damage]) -> Damage:
    """Every file that fits `pattern` is damaged."""

    def damage(here: Path) -> None:
        found = sorted(here.glob(pattern))
        assert found, pattern
        for path in found:
            way(str(path.relative_to(here)))(here)

    return damage


def mutated(path: str, *seed: int) -> Damage:
    """Random changes of a few bytes; the same seed makes the same ones."""

    def mutate(old: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        new = bytearray(old)
        for _ in range(int(rng.integers(1, 5))):
            start = int(rng.integers(len(new) + 1))
            length = int(rng.integers(1, 17))
            block = rng.bytes(length)
            way = rng.integers(6)
            if way == 0:
                new[start : start + length] = block
            elif way == 1:
                new[start:start] = block
            elif way == 2:
                del new[start : start + length]
            elif way == 3:
                new[start : start + length] = bytes(length)
            elif way == 4:
                new[start:start] = new[: length * 4]
            elif start > len(new) // 2:
                del new[start:]
        return bytes(new)

    return edited(path, mutate)
