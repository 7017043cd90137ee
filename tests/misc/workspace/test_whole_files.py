import os
from pathlib import Path

import pytest

from misc.errors import UserError
from misc.workspace import atomic_write, content_digest, digest, read_json, stat_digest, write_json


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" whole")
    assert path.read_bytes() == b"half whole"
    assert names_in(path.parent) == ["file"]


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("there_before", [True, False])
def test_an_interrupted_write_leaves_everything_as_it_was(
    tmp_path: Path, interruption: type[BaseException], there_before: bool
) -> None:
    path = tmp_path / "file"
    if there_before:
        path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert names_in(tmp_path) == ["file"] * there_before
    assert not there_before or path.read_bytes() == b"old"


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {"süß": [1, 0.1, None, True], "nested": {"a": "b"}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert "süß" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": \xff')
    with pytest.raises(UserError, match=r"a\.json is not valid JSON.*Delete it"):
        read_json(tmp_path / "a.json")


def test_a_digest_knows_content_but_not_the_order_of_names() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1, "b": [2]}) != digest({"a": 1, "b": [3]})


def test_changed_missing_and_renamed_files_change_the_digest(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"abc")
    status = one.stat()
    seen = {stat_digest([one]), stat_digest([one, other]), stat_digest([other, one])}
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    seen.add(stat_digest([one]))
    one.write_bytes(b"abcd")
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
    seen.add(stat_digest([one]))
    one.rename(other)
    seen |= {stat_digest([one]), stat_digest([other])}
    assert len(seen) == 7


def test_unchanged_files_keep_their_digest(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"abc")
    assert stat_digest([tmp_path / "one"]) == stat_digest([tmp_path / "one"])


def test_the_digest_of_content_does_not_know_name_or_time(tmp_path: Path) -> None:
    for name, content in (("one", b"abc"), ("other", b"abc"), ("third", b"abd")):
        (tmp_path / name).write_bytes(content)
    assert content_digest(tmp_path / "one") == content_digest(tmp_path / "other")
    assert content_digest(tmp_path / "one") != content_digest(tmp_path / "third")


def test_a_byte_far_into_a_file_changes_its_digest(tmp_path: Path) -> None:
    """It is read in blocks of 4 MiB, and all of them count."""
    content = bytearray(6 << 20)
    found = set()
    for place in (None, 0, 4 << 20, 5 << 20, (6 << 20) - 1):
        changed = content.copy()
        if place is not None:
            changed[place] = 1
        (tmp_path / "large").write_bytes(changed)
        found.add(content_digest(tmp_path / "large"))
    assert len(found) == 5
