import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from misc import download
from misc.download import fetch
from misc.errors import UserError
from tests.http_server import Served, serving

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "BLOCK_BYTES", 10_000)
    with serving(Served({"set.zip": CONTENT})) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "set.zip"


def get(served: Served, target: Path, *, retries: int = 3) -> None:
    fetch(f"{served.url}/set.zip", target, retries=retries, timeout=5, wait=0)


def check_whole(target: Path) -> None:
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_file_comes_whole(served: Served, target: Path) -> None:
    get(served, target)
    check_whole(target)
    assert served.asked == [("/set.zip", None)]


def test_dropped_connections_are_resumed_where_they_broke(served: Served, target: Path) -> None:
    served.drop_after = [100_000, 0, 50_001, 1]
    get(served, target, retries=1)
    check_whole(target)
    asked = [wanted for _, wanted in served.asked]
    assert asked == [None, *(f"bytes={n}-" for n in (100_000, 100_000, 150_001, 150_002))]


def test_a_second_run_goes_on(served: Served, target: Path) -> None:
    served.drop_after = [100_000, 0, 0]
    with pytest.raises(UserError, match=r"announced 300000 bytes.* 100000 bytes that arrived"):
        get(served, target, retries=1)
    assert not target.exists()
    served.drop_after = []
    get(served, target)
    check_whole(target)
    assert served.asked[-1] == ("/set.zip", "bytes=100000-")


@pytest.mark.parametrize("how", ["no_ranges", "no_etag", "weak_etag"])
def test_what_cannot_be_resumed_starts_anew(served: Served, target: Path, how: str) -> None:
    served.drop_after = [100_000]
    served.resumes = how != "no_ranges"
    served.etag = {"no_ranges": '"one"', "no_etag": "", "weak_etag": 'W/"one"'}[how]
    get(served, target)
    check_whole(target)


def test_another_file_by_then_starts_anew(served: Served, target: Path) -> None:
    served.files["set.zip"], served.drop_after = b"old" * 100_000, [100_000, 0]
    with pytest.raises(UserError):
        get(served, target, retries=0)
    served.files["set.zip"], served.etag, served.drop_after = CONTENT, '"two"', []
    get(served, target)
    check_whole(target)


def test_the_same_tag_on_a_file_of_another_size_is_not_trusted(
    served: Served, target: Path
) -> None:
    served.files["set.zip"], served.drop_after = b"o" * 250_000, [100_000, 0]
    with pytest.raises(UserError):
        get(served, target, retries=0)
    served.files["set.zip"] = CONTENT
    get(served, target)
    check_whole(target)


def test_the_same_tag_on_a_shorter_file_is_not_trusted(served: Served, target: Path) -> None:
    served.files["set.zip"], served.drop_after = b"o" * 400_000, [350_000, 0]
    with pytest.raises(UserError):
        get(served, target, retries=0)
    served.files["set.zip"] = CONTENT
    get(served, target)
    check_whole(target)


def test_a_part_of_somebody_elses_is_not_used(served: Served, target: Path) -> None:
    target.parent.mkdir()
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(b"x" * 1000)
    part.with_name(f"{part.name}.json").write_text("{")
    get(served, target)
    check_whole(target)


def test_a_part_left_whole_needs_no_byte_more(served: Served, target: Path) -> None:
    served.drop_after = [100_000, 0]
    with pytest.raises(UserError):
        get(served, target, retries=0)
    target.with_name(f".{target.name}.part").write_bytes(CONTENT)
    get(served, target)
    check_whole(target)


def test_a_server_that_sends_the_wrong_part(served: Served, target: Path) -> None:
    served.drop_after, served.wrong_part = [100_000], True
    get(served, target)
    check_whole(target)
    assert [wanted for _, wanted in served.asked] == [None, "bytes=100000-", None]


def test_a_server_that_announces_more_than_it_has(served: Served, target: Path) -> None:
    served.length, served.resumes = 310_000, False
    with pytest.raises(UserError, match="announced 310000 bytes and stopped after 300000"):
        get(served, target, retries=2)
    assert not target.exists()
    assert len(served.asked) == 4  # the first brought something new, three did not


def test_a_server_that_announces_less_than_it_has_gives_what_it_announced(
    served: Served, target: Path
) -> None:
    """The archive's own checks find such a file damaged."""
    served.length = 200_000
    get(served, target)
    assert target.read_bytes() == CONTENT[:200_000]


def test_without_a_length_everything_counts_up_to_a_limit(
    served: Served, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.chunked = True
    get(served, target)
    check_whole(target)
    target.unlink()
    monkeypatch.setattr(download, "MAX_BYTES", 200_000)
    with pytest.raises(UserError, match="more than 200000 bytes"):
        get(served, target)
    assert list(target.parent.iterdir()) == []


def test_busy_servers_are_asked_again_and_refusals_are_not(served: Served, target: Path) -> None:
    served.statuses = [503, 429, 500]
    get(served, target)
    check_whole(target)
    served.statuses, served.asked = [403], []
    with pytest.raises(UserError, match="403"):
        get(served, target.with_name("again.zip"))
    assert len(served.asked) == 1
    with pytest.raises(UserError, match="404"):
        fetch(f"{served.url}/none.zip", target.with_name("none.zip"), wait=0)


def test_a_full_disk_is_said_before_the_first_byte(
    served: Served, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    with pytest.raises(UserError, match="free"):
        get(served, target)
    assert not target.exists()


def test_nobody_there(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving(Served({})) as gone:
        pass
    with pytest.raises(UserError, match=r"connection failed"):
        get(gone, target, retries=1)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "set.zip"])
def test_only_http(url: str, target: Path) -> None:
    with pytest.raises(UserError, match="no http or https address"):
        fetch(url, target)


def test_the_note_says_what_the_part_belongs_to(served: Served, target: Path) -> None:
    served.drop_after = [100_000, 0]
    with pytest.raises(UserError):
        get(served, target, retries=0)
    note = json.loads((target.parent / f".{target.name}.part.json").read_text())
    assert note == {"url": f"{served.url}/set.zip", "size": 300_000, "validator": '"one"'}
