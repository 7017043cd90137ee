"""Content decides; what nobody touched is not read twice."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from misc.workspace import NO_FILE, FileFingerprints, content_digest
from misc.workspace import fingerprints as fingerprints_module


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "notes" / "files.sqlite"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content is read."""
    paths: list[Path] = []

    def noted(path: Path) -> str:
        paths.append(path)
        return content_digest(path)

    monkeypatch.setattr(fingerprints_module, "content_digest", noted)
    return paths


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_files_of_one_content_have_one_digest(tmp_path: Path) -> None:
    prints = FileFingerprints()
    one, copy, other = (write(tmp_path / n, c) for n, c in (("a", "x"), ("b", "x"), ("c", "y")))
    found = prints.of_all([one, copy, other, tmp_path / "none"])
    assert found[0] == found[1] == content_digest(one)
    assert found[2] != found[0]
    assert found[3] == NO_FILE


def test_untouched_files_are_read_once_by_all_runs(
    tmp_path: Path, memory: Path, read: list[Path]
) -> None:
    paths = [write(tmp_path / f"{i}", f"{i}") for i in range(100)]
    first = FileFingerprints(memory)
    found = first.of_all(paths)
    assert len(read) == 100
    assert first.of_all(paths) == found
    assert len(read) == 100
    assert not memory.exists()  # until it is saved, nothing is written
    first.save()
    assert FileFingerprints(memory).of_all(paths) == found
    assert len(read) == 100


def test_a_changed_file_is_read_again_and_a_copy_is_none(
    tmp_path: Path, memory: Path, read: list[Path]
) -> None:
    path = write(tmp_path / "a", "one")
    prints = FileFingerprints(memory)
    before = prints.of(path)
    prints.save()
    status = path.stat()
    write(path, "two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert FileFingerprints(memory).of(path) != before
    of_two = FileFingerprints(memory)
    before_two = of_two.of(path)
    of_two.save()
    status = path.stat()
    write(path, "six")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` does
    assert FileFingerprints(memory).of(path) != before_two
    copy = shutil.copy(path, tmp_path / "copy")
    write(path, "one")
    os.replace(copy, path)  # as rsync does: another inode and time
    assert FileFingerprints(memory).of(path) == content_digest(path)
    write(path, "one")
    assert FileFingerprints(memory).of(path) == before


def test_a_damaged_memory_costs_time_alone(
    tmp_path: Path, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory.parent.mkdir()
    memory.write_bytes(b"no database" * 1000)
    path = write(tmp_path / "a", "one")
    prints = FileFingerprints(memory)
    assert prints.of(path) == content_digest(path)
    assert "is damaged" in caplog.text
    prints.save()
    with sqlite3.connect(memory) as database:
        assert database.execute("SELECT count(*) FROM contents").fetchone() == (1,)


def test_a_memory_whose_pages_are_damaged_costs_time_alone(
    tmp_path: Path, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [write(tmp_path / f"{i}", f"{i}") for i in range(1000)]
    first = FileFingerprints(memory)
    found = first.of_all(paths)
    first.save()
    content = memory.read_bytes()
    memory.write_bytes(content[:8192] + b"x" * (len(content) - 8192))
    assert FileFingerprints(memory).of_all(paths) == found
    assert "is damaged" in caplog.text


def test_a_memory_that_may_not_be_written_costs_time_alone(
    tmp_path: Path, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory.mkdir(parents=True)
    prints = FileFingerprints(memory)
    path = write(tmp_path / "a", "one")
    assert prints.of(path) == content_digest(path)
    prints.save()
    assert "cannot be" in caplog.text


def test_a_pipe_is_not_waited_for_and_what_is_too_large_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[Path]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(fingerprints_module, "MAX_BYTES", 3)
    large = write(tmp_path / "large", "four")
    assert FileFingerprints().of_all([tmp_path / "pipe", large]) == [NO_FILE, "4 bytes"]
    assert read == []


def test_what_was_found_sound_is_remembered_with_its_note(memory: Path) -> None:
    prints = FileFingerprints(memory)
    prints.remember({"a": "1,15", "b": ""})
    assert prints.remembered(["a", "c"]) == {"a": "1,15"}
    prints.save()
    assert FileFingerprints(memory).remembered(["a", "b", "c"]) == {"a": "1,15", "b": ""}
