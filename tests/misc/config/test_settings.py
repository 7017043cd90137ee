import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from misc.config import parse_bool, parse_names
from misc.config.settings import (
    add_flags,
    broken_rules,
    distinct,
    parse_integers,
    parse_numbers,
    plain,
    setting,
)
from misc.runtime import available_cpus


@dataclass(frozen=True)
class Kitchen:
    heading: ClassVar[str] = "kitchen"

    heat: float = setting(0.5, "share of the 100% heat", at_least=0, at_most=1)
    hours: tuple[int, ...] = setting((), "when", at_least=0, at_most=23, rule=distinct)
    salted: bool = setting(False, "with salt", in_short_help=True)


@dataclass(frozen=True)
class Meal(Kitchen):
    heading: ClassVar[str] = "table"

    spoons: int = setting(2, "how many spoons", at_least=0)
    book: Path | None = setting(None, "recipe")
    kind: str = setting("soup", "what", ("soup", "cake"))
    price: float = setting(1.0, "in coins", above=0)


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for part in (Kitchen, Meal):
        add_flags(parser, part)
    return parser


def test_flags_are_typed_by_their_fields_and_absent_unless_given(
    parser: argparse.ArgumentParser,
) -> None:
    assert vars(parser.parse_args([])) == {}
    given = ["--spoons=3", "--heat=1", "--hours=7,19", "--salted", "--book=a/b", "--kind=cake"]
    assert Meal(**vars(parser.parse_args(given))) == Meal(
        1.0, (7, 19), True, 3, Path("a/b"), "cake"
    )


def test_help_has_each_heading_once_and_every_default(parser: argparse.ArgumentParser) -> None:
    text = parser.format_help()
    assert text.count("kitchen:") == text.count("table:") == 1
    for expected in ("(default: 2)", "100% heat (default: 0.5)", "with salt (default: no)"):
        assert expected in " ".join(text.split())


def test_values_out_of_range_are_named_with_their_rule() -> None:
    assert broken_rules(Meal(1.0, (0, 23), spoons=0)) == []
    assert broken_rules(Meal(1.5, (5, 24), spoons=-1, price=0)) == [
        "--heat 1.5: must be between 0 and 1",
        "--hours 5,24: must be between 0 and 23",
        "--spoons -1: must not be negative",
        "--price 0: must be above 0",
    ]
    assert broken_rules(Meal(heat=float("nan"))) == ["--heat nan: must be between 0 and 1"]
    assert broken_rules(Meal(hours=(3, 3))) == ["--hours 3,3: one is named twice"]


def test_the_short_help_leaves_out_what_few_need() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, Kitchen, is_short=True)
    assert "--salted" in parser.format_help()
    assert "--heat" not in parser.format_help()
    assert parser.parse_args(["--heat=1"]).heat == 1


def test_text_that_is_no_value_is_refused() -> None:
    assert parse_bool(" Yes ")
    assert not parse_bool("off")
    for parse, text in ((parse_bool, "perhaps"), (parse_integers, "1,2.5")):
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            parse(text)


def test_json_can_hold_every_value() -> None:
    assert [plain(value) for value in (Path("a"), (1, 2), None)] == ["a", [1, 2], None]


@pytest.mark.parametrize(
    ("arguments", "value"),
    [(["--salted"], True), (["--salted=yes"], True), (["--salted=0"], False)],
)
def test_a_switch_can_be_given_either_way(
    parser: argparse.ArgumentParser, arguments: list[str], value: bool
) -> None:
    assert vars(parser.parse_args(arguments)) == {"salted": value}


@pytest.mark.parametrize("argument", ["--kind=tea", "--heat=warm", "--spoons=1.5", "--salted=very"])
def test_arguments_of_another_type_are_refused_by_flag(
    parser: argparse.ArgumentParser, argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([argument])
    assert argument.split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("text", ["True", "yes", "1", "ON", " true "])
def test_words_for_yes(text: str) -> None:
    assert parse_bool(text) is True


@pytest.mark.parametrize("text", ["False", "no", "0", "Off"])
def test_words_for_no(text: str) -> None:
    assert parse_bool(text) is False


@pytest.mark.parametrize("text", ["", "maybe", "2", "None"])
def test_other_words_are_neither(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="neither yes nor no"):
        parse_bool(text)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,0.5,1.5", (1, 0.5, 1.5)),
        ("(1.0, 0.5)", (1, 0.5)),
        ("[2]", (2,)),
        ("1,", (1,)),
        ("0:0.8:5", (0, 0.2, 0.4, 0.6, 0.8)),
        ("0.9:0.7:2,1", (0.9, 0.7, 1)),
        ("", ()),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, numbers: tuple[float, ...]) -> None:
    assert parse_numbers(text) == numbers


@pytest.mark.parametrize("text", ["1;2", "a", "1,nan", "inf", "0:1", "0:1:1", "0:1:2.5"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a list of numbers"):
        parse_numbers(text)


def test_whole_numbers_have_no_fraction() -> None:
    assert parse_integers("(0, 1,2)") == (0, 1, 2)
    with pytest.raises(argparse.ArgumentTypeError, match="not a list of whole numbers"):
        parse_integers("1.5")


def test_names_are_split_at_commas() -> None:
    assert parse_names("cat, potted plant,,") == ("cat", "potted plant")
    assert parse_names("") == ()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs CPU affinity")
def test_only_cpus_that_the_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert available_cpus() == 2
