from pathlib import Path

import pytest

from misc.errors import UserError
from misc.workspace import Identity, Record, claim_record

IMAGES = {"images": Identity("0a", "0b")}
RECORD = Record({"beta": 5.0, "scales": [1.0, 0.5], "root": None}, IMAGES)
OTHER = Record({"beta": 7.0, "scales": [1.0, 0.5], "root": None}, IMAGES)


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        (Identity("r", "c"), Identity("r", "c"), True),
        (Identity("r", "c"), Identity("s", "c"), True),  # made from other things, the same bits
        (Identity("r", "c"), Identity("r", "d"), False),  # on a GPU no training comes again
        (Identity("r", "c"), Identity("r"), True),  # to be made from the same things
        (Identity("r", "c"), Identity("s"), False),
        (Identity("r"), Identity("r"), True),
    ],
)
def test_contents_decide_and_recipes_where_one_is_unknown(
    one: Identity, other: Identity, is_equal: bool
) -> None:
    assert one.equals(other) == other.equals(one) == is_equal


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    assert Record.read(tmp_path / "r.json") is None
    record = Record(RECORD.settings, {"w": Identity("a", "b", {"seed": 5})}, {"photo 1": "x,y"})
    record.write(tmp_path / "r.json", {"more": 1})
    read, more = Record.read_with_more(tmp_path / "r.json")
    assert read == record
    assert read.inputs["w"].settings == {"seed": 5}
    assert more == {"more": 1}


def test_a_records_identity_is_that_of_all_it_was_made_from_but_not_of_which_images() -> None:
    plain = RECORD.identity()
    assert Record(RECORD.settings, IMAGES, {"a": "x"}).identity() == plain
    assert plain.settings == RECORD.settings
    assert OTHER.identity().recipe != plain.recipe
    same_recipe = Record(RECORD.settings, {"images": Identity("0a", "ff")}).identity()
    assert (same_recipe.recipe, same_recipe.content) != (plain.recipe, plain.content)
    assert same_recipe.recipe == plain.recipe
    unknown = Record(RECORD.settings, {"images": Identity("0a")}).identity()
    assert unknown == Identity(plain.recipe, "")


@pytest.mark.parametrize("content", ["[]", "{}", '{"settings": {}}', '{"inputs": [], "a": 1}'])
def test_what_is_no_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError, match=r"r\.json is not a record"):
        Record.read(tmp_path / "r.json")


def test_every_setting_and_input_that_differs_is_named() -> None:
    x, y = Identity("x"), Identity("y")
    earlier = Record({"beta": 7.0, "gone": 1, "same": 2}, {"images": x, "same": x, "old": x})
    now = Record(
        {"beta": 5.0, "new": [1.0, 0.5], "same": 2, "on": True}, {"images": y, "same": x, "maps": y}
    )
    settings, inputs = now.changes_since(earlier)
    assert settings == [
        "--beta was 7, is 5", "--gone was 1, is unset", "--new was unset, is 1,0.5",
        "--on was unset, is yes",
    ]  # fmt: skip
    assert inputs == ["images", "maps", "old"]
    assert not now.is_made_like(earlier)
    assert now.is_made_like(Record(now.settings, now.inputs, {"other": "images"}))


def test_a_first_claim_writes_the_record_and_later_ones_must_equal_it(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    claim_record(path, RECORD, "What is here", "choose another --out")
    claim_record(path, RECORD, "What is here", "choose another --out")
    with pytest.raises(UserError) as caught:
        claim_record(path, OTHER, "What is here", "choose another --out")
    assert str(caught.value) == (
        "What is here was made with different settings:\n  --beta was 5, is 7\n"
        "Pass --overwrite to redo it, choose another --out, or restore the earlier settings."
    )
    assert Record.read(path) == RECORD
