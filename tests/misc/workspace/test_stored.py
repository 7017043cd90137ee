"""Results on disk: whose they are, and how successors take their place, stopped anywhere."""

import os
from pathlib import Path

import pytest

from misc.workspace import Identity, ImageFolder, Record, WeightsFile, content_digest
from misc.workspace import stored as stored_module

IDS = ("a", "b")
RECORD = Record({"beta": 5.0}, {"weights": Identity("r", "c")}, {"a": "1", "b": "2", "z": "9"})
OTHER = Record({"beta": 7.0}, {"weights": Identity("r", "c")}, {"a": "1", "b": "2", "z": "9"})


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(folder: ImageFolder, *names: str, content: bytes = b"x") -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder.path / name).write_bytes(content)


@pytest.fixture
def masks(tmp_path: Path) -> ImageFolder:
    return ImageFolder(tmp_path / "masks", [".png", "_crf.png"], "--sem_seg_out_dir")


def test_files_are_named_by_id_and_suffix(masks: ImageFolder) -> None:
    assert masks.file("a b") == masks.path / "a b.png"
    assert masks.file("a b", "_crf.png") == masks.path / "a b_crf.png"


def test_an_image_is_missing_until_all_its_files_are_there(masks: ImageFolder) -> None:
    assert masks.missing(["a", "b", "c"]) == ["a", "b", "c"]
    put(masks, "a.png", "a_crf.png", "b.png", ".c.png.1.partial", "c_crf.png")
    assert masks.missing(["c", "b", "a"]) == ["c", "b"]


def test_files_without_a_record_are_somebody_elses(masks: ImageFolder) -> None:
    assert not masks.is_foreign()
    put(masks, "notes.txt")
    assert masks.is_empty()
    assert not masks.is_foreign()
    put(masks, "a.png", "a_crf.png")
    assert masks.is_foreign()
    RECORD.write(masks.record_path)
    assert not masks.is_foreign()


def test_missing_files_go_right_to_their_place(masks: ImageFolder) -> None:
    put(masks, ".b.png.77.partial")
    assert masks.begin(RECORD, ["a"], anew=False) is masks
    assert masks.record() == Record(RECORD.settings, RECORD.inputs, {"a": "1"})
    masks.begin(RECORD, ["b"], anew=False)
    assert masks.record() == Record(RECORD.settings, RECORD.inputs, {"a": "1", "b": "2"})
    assert names_in(masks.path) == ["settings.json"]


def test_a_record_of_files_that_are_gone_is_no_obstacle(masks: ImageFolder) -> None:
    masks.begin(RECORD, ["z"], anew=False)
    masks.begin(OTHER, ["a"], anew=False)
    assert masks.record() == Record(OTHER.settings, OTHER.inputs, {"a": "1"})


def made(masks: ImageFolder, record: Record, *ids: str, content: bytes = b"old") -> None:
    masks.begin(record, ids, anew=False)
    put(masks, *(f"{i}{suffix}" for i in ids for suffix in masks.suffixes), content=content)


def test_old_files_stay_until_all_new_ones_are_there(masks: ImageFolder) -> None:
    made(masks, RECORD, *IDS, "z")
    put(masks, "notes.txt", "mine.png")
    growing = masks.begin(OTHER, IDS, anew=True)
    assert growing.path.parent == masks.path
    put(growing, "a.png", "a_crf.png", "b.png", "b_crf.png", content=b"new")
    assert masks.file("a").read_bytes() == b"old"
    assert masks.record() == RECORD
    masks.complete(whole=True)
    assert masks.file("a").read_bytes() == b"new"
    assert names_in(masks.path) == [
        "a.png", "a_crf.png", "b.png", "b_crf.png", "mine.png", "notes.txt", "settings.json",
    ]  # fmt: skip
    assert masks.record() == Record(OTHER.settings, OTHER.inputs, {"a": "1", "b": "2"})


def test_a_few_new_files_leave_the_others_and_their_record(masks: ImageFolder) -> None:
    made(masks, RECORD, *IDS)
    changed = Record(RECORD.settings, RECORD.inputs, {"a": "changed"})
    put(masks.begin(changed, ["a"], anew=True), "a.png", "a_crf.png", content=b"new")
    masks.complete(whole=False)
    assert masks.file("a").read_bytes() == b"new"
    assert masks.file("b").read_bytes() == b"old"
    assert masks.record() == Record(RECORD.settings, RECORD.inputs, {"a": "changed", "b": "2"})


def test_what_a_stopped_run_has_made_of_the_successors_is_kept(masks: ImageFolder) -> None:
    made(masks, RECORD, *IDS)
    put(masks.begin(OTHER, IDS, anew=True), "a.png", "a_crf.png", "b.png")
    assert masks.grown(OTHER, IDS) == {"a"}
    assert masks.grown(RECORD, IDS) == set()
    other_photograph = Record(OTHER.settings, OTHER.inputs, {"a": "changed", "b": "2"})
    assert masks.grown(other_photograph, IDS) == set()
    put(masks.begin(OTHER, IDS, anew=True), "b.png", "b_crf.png")
    masks.begin(other_photograph, IDS, anew=True)
    # Of the old photograph: the record would say that it is of the new one.
    assert names_in(masks.staging.path) == ["b.png", "b_crf.png", "settings.json"]
    masks.begin(Record({"beta": 9.0}, {}, {"a": "1"}), ["a"], anew=True)
    assert names_in(masks.staging.path) == ["settings.json"]


def test_files_of_further_suffixes_go_with_what_is_replaced(masks: ImageFolder) -> None:
    made(masks, RECORD, *IDS)
    without_crf = ImageFolder(masks.path, (".png",), masks.flag, further=("_crf.png",))
    changed = Record(RECORD.settings, RECORD.inputs, {"a": "changed"})
    put(without_crf.begin(changed, ["a"], anew=True), "a.png", content=b"new")
    without_crf.complete(whole=False)
    assert masks.missing(IDS) == ["a"]
    assert names_in(masks.path) == ["a.png", "b.png", "b_crf.png", "settings.json"]


def test_a_replacement_is_finished_with_the_suffixes_that_it_was_begun_with(
    masks: ImageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(masks, RECORD, *IDS)
    without_crf = ImageFolder(masks.path, (".png",), masks.flag, further=("_crf.png",))
    put(without_crf.begin(OTHER, IDS, anew=True), "a.png", "b.png", content=b"new")
    with monkeypatch.context() as patch:
        patch.setattr(ImageFolder, "recover", lambda _: None)
        without_crf.complete(whole=True)
    masks.recover()
    assert names_in(masks.path) == ["a.png", "b.png", "settings.json"]


def stop_at_rename(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the process be stopped just before its rename of this number."""
    rename, left = os.replace, [None] * number

    def replace(source: Path, target: Path) -> None:
        left.pop()
        if not left:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("number", range(1, 8))
def test_stopped_anywhere_in_taking_the_place_the_next_run_finishes_it(
    masks: ImageFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    made(masks, RECORD, *IDS, "z")
    put(masks.begin(OTHER, IDS, anew=True), "a.png", "a_crf.png", "b.png", "b_crf.png",
        content=b"new")  # fmt: skip
    with monkeypatch.context() as patch:
        stop_at_rename(patch, number)
        stopped = False
        try:
            masks.complete(whole=True)
        except KeyboardInterrupt:
            stopped = True
    assert stopped == (number <= 6)  # a record, four files, a record
    if number == 1:  # nothing was said to be complete: the old ones are whole
        masks.recover()
        assert masks.file("a").read_bytes() == b"old"
        assert masks.grown(OTHER, IDS) == set(IDS)
        return
    masks.recover()
    contents = {path.name: path.read_bytes() for path in masks.path.glob("*.png")}
    assert contents == dict.fromkeys(["a.png", "a_crf.png", "b.png", "b_crf.png"], b"new")
    assert masks.record() == Record(OTHER.settings, OTHER.inputs, {"a": "1", "b": "2"})
    assert not masks.staging.path.exists()


@pytest.fixture
def weights(tmp_path: Path) -> WeightsFile:
    return WeightsFile(tmp_path / "weights" / "seg.pth", "--seg_weights_name")


def train(weights: WeightsFile, record: Record, content: bytes, *companions: str) -> None:
    weights.begin(record)
    weights.checkpoint.write_bytes(b"state")
    for name in (weights.path.name, *companions):
        (weights.training / name).write_bytes(content)


def test_weights_without_a_record_or_with_that_of_others_are_somebody_elses(
    weights: WeightsFile,
) -> None:
    assert not weights.is_foreign()
    assert weights.identity() is None
    weights.path.parent.mkdir()
    weights.path.write_bytes(b"theirs")
    assert weights.is_foreign()
    assert weights.identity() == Identity.of_content(content_digest(weights.path))
    weights.path.unlink()
    train(weights, RECORD, b"ours")
    weights.complete()
    assert not weights.is_foreign()
    recipe = RECORD.identity().recipe
    assert weights.identity() == Identity(recipe, content_digest(weights.path))
    weights.path.write_bytes(b"theirs")
    assert weights.is_foreign()


def test_a_finished_training_leaves_weights_record_and_companions_alone(
    weights: WeightsFile,
) -> None:
    train(weights, RECORD, b"ours", "seg_best.pth", "seg.pth.notes.json")
    assert weights.begun() == RECORD
    assert not weights.exists()
    weights.complete()
    assert names_in(weights.path.parent) == [
        "seg.pth", "seg.pth.json", "seg.pth.notes.json", "seg_best.pth",
    ]  # fmt: skip
    assert weights.record() == RECORD
    assert weights.companions() == ["seg.pth.notes.json", "seg_best.pth"]
    assert weights.begun() is None


def test_weights_that_are_gone_are_still_known_by_their_recipe(weights: WeightsFile) -> None:
    train(weights, RECORD, b"ours")
    weights.complete()
    weights.path.unlink()
    assert weights.identity() == Identity(RECORD.identity().recipe)


def test_older_weights_stay_until_the_new_training_ends(weights: WeightsFile) -> None:
    train(weights, RECORD, b"old", "seg_best.pth")
    weights.complete()
    (weights.path.parent / "mine_best.pth").write_bytes(b"mine")
    train(weights, OTHER, b"new")
    assert weights.path.read_bytes() == b"old"
    assert weights.record() == RECORD
    assert not weights.is_foreign()
    weights.complete()
    assert weights.path.read_bytes() == b"new"
    assert names_in(weights.path.parent) == ["mine_best.pth", "seg.pth", "seg.pth.json"]
    assert weights.record() == OTHER


def test_a_training_goes_on_only_from_the_same_settings(weights: WeightsFile) -> None:
    train(weights, RECORD, b"half")
    weights.begin(RECORD)
    assert weights.checkpoint.exists()
    weights.begin(OTHER)
    assert names_in(weights.training) == ["settings.json"]
    assert weights.begun() is None  # a record without a state is no obstacle


@pytest.mark.parametrize("number", range(1, 6))
def test_stopped_anywhere_at_its_end_a_training_is_finished_by_the_next_run(
    weights: WeightsFile, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    train(weights, RECORD, b"old", "seg_best.pth")
    weights.complete()
    train(weights, OTHER, b"new", "seg.pth.notes.json")
    with monkeypatch.context() as patch:
        stop_at_rename(patch, number)
        stopped = False
        try:
            weights.complete()
        except KeyboardInterrupt:
            stopped = True
    assert stopped == (number <= 4)  # a record, two files, a record
    if stopped:  # by a kill during the last record, it might be
        (weights.path.parent / ".seg.pth.json.123.partial").touch()
    weights.recover()
    if number == 1:
        assert weights.path.read_bytes() == b"old"
        assert weights.checkpoint.exists()
        return
    assert weights.path.read_bytes() == b"new"
    assert not weights.is_foreign()
    assert names_in(weights.path.parent) == ["seg.pth", "seg.pth.json", "seg.pth.notes.json"]


def test_fingerprints_of_weights_may_be_looked_up(tmp_path: Path) -> None:
    looked_up: list[Path] = []

    def digest_of(path: Path) -> str:
        looked_up.append(path)
        return "known"

    weights = WeightsFile(tmp_path / "w.pth", "--flag", digest_of)
    assert weights.seal() == ""
    weights.path.write_bytes(b"w")
    assert weights.seal() == "known"
    assert looked_up == [weights.path]


def test_files_of_images_together_are_told_by_what_they_share_and_by_each() -> None:
    together = stored_module.identity_of_images
    one = together(Identity("r", "c", {"s": 1}), {"a": "1", "b": "2"})
    assert one.settings == {"s": 1}
    assert one == together(Identity("r", "c"), {"a": "1", "b": "2"})
    assert one.recipe != together(Identity("q", "c"), {"a": "1", "b": "2"}).recipe
    assert one.recipe != together(Identity("r", "c"), {"a": "1", "b": "3"}).recipe
    assert together(Identity("r"), {"a": "1"}).content == ""
