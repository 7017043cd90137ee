import json
from pathlib import Path
from typing import Any

import pytest

from misc import json_stream
from misc.errors import UserError
from misc.json_stream import stream_entries

CONTENT: dict[str, Any] = {
    "info": {"a": [1, "]"]},
    "number": 12345,
    "first": [{"a": 1, "b": [1.5, [2, '}{\\"']]}, {"ä": "ü\u2028猫"}, 7, "text", None, [], 12],
    "empty": [],
    "nothing": None,
    "last": [[1, 2], {}],
}


def entries(path: Path) -> list[tuple[str, Any]]:
    return [(entry.key, entry.value) for entry in stream_entries(path)]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(params=[1, 3, 64, 1 << 22])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", request.param)
    return request.param


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_entries_of_all_arrays_with_their_places(
    tmp_path: Path, window: int, indent: int | None, ascii_only: bool, mark: bytes
) -> None:
    text = json.dumps(CONTENT, indent=indent, ensure_ascii=ascii_only)
    content = mark + b" \n" + text.encode() + b"\r\n\t "
    expected = [(key, item) for key in ("first", "empty", "last") for item in CONTENT[key]]
    path = written(tmp_path / "a.json", content)
    assert entries(path) == expected
    for entry in stream_entries(path):
        assert json.loads(content[entry.start : entry.end]) == entry.value


@pytest.mark.parametrize("content", [b"{}", b" { } ", b'{"a": []}', b'{"a": 12}'])
def test_objects_without_entries(tmp_path: Path, window: int, content: bytes) -> None:
    assert entries(written(tmp_path / "a.json", content)) == []


def test_cut_off_anywhere_it_is_named(tmp_path: Path) -> None:
    content = json.dumps(CONTENT, ensure_ascii=False).encode()
    for length in range(len(content)):
        path = written(tmp_path / "a.json", content[:length])
        with pytest.raises(UserError, match=rf"a\.json is no whole JSON file.* of {length}\."):
            entries(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1, 2]", "no JSON object"),
        (b"\xff\xfe{\0}\0", "no JSON object in UTF-8"),
        (b"<html>", "no JSON object"),
        (b'{"a": [1 2]}', r"a comma or \] is expected, at byte 9 of 12"),
        (b'{"a": [1]]', "a comma or } is expected"),
        (b'{"a" [1]}', "a colon is expected"),
        (b"{1: [1]}", "a name in quotes"),
        (b'{"a": [1,]}', "Expecting value"),
        (b'{"a": [{"b": tru}]}', "Expecting value"),
        (b'{"a": ["\xff\xff"]}', "not UTF-8"),
        (b'{"a": [1]} {}', "something follows"),
        (b'{"a": [' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": [' + b"1" * 5000 + b"]}", "digits"),
    ],
)
def test_what_is_not_json_is_named_with_its_place(
    tmp_path: Path, window: int, content: bytes, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        entries(written(tmp_path / "a.json", content))


def test_an_entry_without_end_is_not_read_to_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", 16)
    monkeypatch.setattr(json_stream, "MAX_ENTRY_BYTES", 64)
    path = written(tmp_path / "a.json", b'{"a": ["' + b"x" * 1000 + b'"]}')
    with pytest.raises(UserError, match="at byte 7 of"):
        entries(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError, match="Correct its name"):
            entries(path)
