import contextlib
import os
from pathlib import Path

import pytest

from misc.errors import UserError
from misc.workspace import (
    ArtefactFolder,
    Record,
    WeightsFile,
    atomic_write,
    claim_record,
    content_digest,
    digest,
    read_json,
    stat_digest,
    write_json,
)

RECORD = Record({"beta": 5.0, "scales": [1.0, 0.5], "root": None}, {"images": "0a"})
OTHER = Record({"beta": 7.0, "scales": [1.0, 0.5], "root": None}, {"images": "0a"})


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


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    assert Record.read(tmp_path / "r.json") is None
    RECORD.write(tmp_path / "r.json")
    read = Record.read(tmp_path / "r.json")
    assert read == RECORD
    assert read.digest() == RECORD.digest() != OTHER.digest()


@pytest.mark.parametrize("content", ["[]", "{}", '{"settings": {}}'])
def test_what_is_no_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError, match=r"r\.json is not a record"):
        Record.read(tmp_path / "r.json")


def test_every_setting_and_input_that_differs_is_named() -> None:
    earlier = Record({"beta": 7.0, "gone": 1, "same": 2}, {"images": "0b", "same": "x"})
    now = Record({"beta": 5.0, "new": 3, "same": 2}, {"images": "0a", "same": "x", "maps": "y"})
    with pytest.raises(UserError) as caught:
        now.demand_equal(earlier, "What /masks holds", "name another --dir")
    message = str(caught.value)
    for part in (
        "What /masks holds was made otherwise",
        "--beta was 7.0, is 5.0",
        "--gone was 1, is None",
        "--new was None, is 3",
        "its input changed: images",
        "its input changed: maps",
        "--overwrite",
        "name another --dir",
    ):
        assert part in message
    assert "same" not in message


@pytest.mark.parametrize(
    ("inputs", "also", "is_equal"),
    [
        ({"maps": "folder"}, {"maps": "another list"}, True),
        ({"maps": "grown folder"}, {"maps": "list"}, True),
        ({"maps": "list"}, {}, True),  # of a version that had no second fingerprint
        ({"maps": "grown folder"}, {"maps": "another list"}, False),
        ({"maps": "another list"}, {}, False),
        ({}, {}, False),
    ],
)
def test_one_equal_fingerprint_of_two_is_enough(
    tmp_path: Path, inputs: dict[str, str], also: dict[str, str], is_equal: bool
) -> None:
    now = Record({}, {"maps": "folder"}, also={"maps": "list"})
    Record({}, inputs, also=also).write(tmp_path / "r.json")
    earlier = Record.read(tmp_path / "r.json")
    assert earlier is not None
    expected = contextlib.nullcontext() if is_equal else pytest.raises(UserError, match="maps")
    with expected:
        now.demand_equal(earlier, "What", "remedy")


def test_a_first_claim_writes_the_record_and_later_ones_must_equal_it(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    claim_record(path, RECORD, "it", "help")
    claim_record(path, RECORD, "it", "help")
    with pytest.raises(UserError, match=r"--beta was 5\.0, is 7\.0"):
        claim_record(path, OTHER, "it", "help")
    assert Record.read(path) == RECORD


@pytest.fixture
def weights(tmp_path: Path) -> WeightsFile:
    return WeightsFile(tmp_path / "weights" / "cam.pth", "--cam_weights_name")


def test_weights_are_to_be_trained_until_they_are_there(weights: WeightsFile) -> None:
    assert weights.state_digest() == "missing"
    assert weights.claim(RECORD)
    assert weights.claim(RECORD)
    weights.path.write_bytes(b"weights")
    assert not weights.claim(RECORD)
    assert not weights.is_foreign()
    assert weights.state_digest() == content_digest(weights.path)


def test_weights_trained_otherwise_are_refused_by_setting_and_flag(weights: WeightsFile) -> None:
    weights.claim(RECORD)
    with pytest.raises(UserError, match=r"(?s)cam\.pth was made otherwise.*--beta.*--cam_weights"):
        weights.claim(OTHER)


def test_weights_without_a_record_are_somebody_elses(weights: WeightsFile) -> None:
    assert not weights.is_foreign()
    weights.path.parent.mkdir()
    weights.path.write_bytes(b"weights")
    assert weights.is_foreign()


def test_overwriting_weights_deletes_training_state_and_record(weights: WeightsFile) -> None:
    weights.claim(RECORD)
    for path in (weights.path, weights.checkpoint_path, weights.path.parent / "mine.pth"):
        path.write_bytes(b"weights")
    assert weights.claim(OTHER, overwrite=True)
    assert names_in(weights.path.parent) == [weights.record_path.name, "mine.pth"]
    assert Record.read(weights.record_path) == OTHER


@pytest.fixture
def masks(tmp_path: Path) -> ArtefactFolder:
    return ArtefactFolder(tmp_path / "masks", [".png", "_crf.png"], "--sem_seg_out_dir")


def put(masks: ArtefactFolder, *names: str) -> None:
    masks.folder.mkdir(exist_ok=True)
    for name in names:
        (masks.folder / name).write_bytes(b"x")


def test_files_are_named_by_id_and_suffix(masks: ArtefactFolder) -> None:
    assert masks.path("a b") == masks.folder / "a b.png"
    assert masks.path("a b", "_crf.png") == masks.folder / "a b_crf.png"


def test_an_image_is_pending_until_all_its_files_are_there(masks: ArtefactFolder) -> None:
    assert masks.pending(["a", "b", "c"]) == ["a", "b", "c"]
    put(masks, "a.png", "a_crf.png", "b.png", ".c.png.1.partial", "c_crf.png")
    assert masks.pending(["c", "b", "a"]) == ["c", "b"]


def test_a_claim_returns_what_is_to_be_made_and_sweeps_up(masks: ArtefactFolder) -> None:
    assert masks.claim(RECORD, ["a", "b"]) == ["a", "b"]
    put(masks, "a.png", "a_crf.png", ".b.png.77.partial")
    assert masks.claim(RECORD, ["a", "b"]) == ["b"]
    assert names_in(masks.folder) == ["a.png", "a_crf.png", "settings.json"]


def test_files_made_otherwise_are_refused_by_setting_and_flag(masks: ArtefactFolder) -> None:
    masks.claim(RECORD, ["a"])
    with pytest.raises(UserError, match=r"(?s)masks holds was made.*--beta.*--sem_seg_out_dir"):
        masks.claim(OTHER, ["a"])


def test_overwriting_alike_deletes_only_the_wanted_files(masks: ArtefactFolder) -> None:
    masks.claim(RECORD, [])
    put(masks, "a.png", "a_crf.png", "b.png", "notes.txt")
    assert masks.claim(RECORD, ["a"], overwrite=True) == ["a"]
    assert names_in(masks.folder) == ["b.png", "notes.txt", "settings.json"]


def test_overwriting_otherwise_leaves_no_file_of_the_earlier_settings(
    masks: ArtefactFolder,
) -> None:
    masks.claim(RECORD, [])
    put(masks, "a.png", "a_crf.png", "b.png", "notes.txt")
    assert masks.claim(OTHER, ["a"], overwrite=True) == ["a"]
    assert names_in(masks.folder) == ["notes.txt", "settings.json"]
    assert Record.read(masks.record_path) == OTHER


def test_files_without_a_record_are_somebody_elses(masks: ArtefactFolder) -> None:
    assert not masks.is_foreign()
    put(masks, "notes.txt")
    assert not masks.is_foreign()
    put(masks, "a.png", "a_crf.png")
    assert masks.is_foreign()
    assert masks.is_plugged_in(["a"])
    assert not masks.is_plugged_in(["a", "b"])
    RECORD.write(masks.record_path)
    assert not masks.is_foreign()


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_somebody_else_are_never_added_to_or_deleted(
    masks: ArtefactFolder, overwrite: bool
) -> None:
    put(masks, "a.png", "a_crf.png")
    with pytest.raises(UserError, match=r"none of 1 images, b for one.*--sem_seg_out_dir"):
        masks.claim(RECORD, ["a", "b"], overwrite=overwrite)
    assert names_in(masks.folder) == ["a.png", "a_crf.png"]


def test_the_state_of_our_files_is_their_record_that_of_others_the_files(
    masks: ArtefactFolder,
) -> None:
    put(masks, "a.png")
    foreign = masks.state_digest(["a"])
    put(masks, "a_crf.png")
    assert masks.state_digest(["a"]) != foreign
    RECORD.write(masks.record_path)
    assert masks.state_digest(["a"]) == masks.state_digest(["a", "b"]) == RECORD.digest()


def test_a_usual_setting_counts_where_a_record_lacks_it() -> None:
    usual = {"dtype": "float32"}
    plain, half = Record({}, {}, usual), Record({"dtype": "float16"}, {}, usual)
    assert plain == Record({}, {})
    plain.demand_equal(Record({"dtype": "float32"}, {}), "it", "move it")
    with pytest.raises(UserError, match="--dtype was float32, is float16"):
        half.demand_equal(Record({}, {}), "it", "move it")
    with pytest.raises(UserError, match="--dtype was float16, is float32"):
        plain.demand_equal(half, "it", "move it")
