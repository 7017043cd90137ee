"""From declared settings to flags: parsers of their text, their help, and their ranges."""

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from misc.seeds import MOST_SEED

TRUE_WORDS = ("true", "yes", "1", "on")
FALSE_WORDS = ("false", "no", "0", "off")

LONGEST_PART = 255  # bytes of a name that file systems take
LONG = 8  # values that a default of the help may list
MOST_NUMBERS = 1000  # in one list: 0:1:1000000000 would fill the memory

RESULT, INPUT, NO_EFFECT = "result", "input", "no effect"
"""What a setting decides: results; which data are read, which are told apart by their content; or
nothing that a result depends on."""


class Range(NamedTuple):
    """What a number, or all of several, must lie between; None where there is no bound."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    def broken_by(self, value: Any) -> str:
        """What to say of a setting's value that lies outside; "" if it does not."""
        if all(bound is None for bound in self):
            return ""
        values = value if isinstance(value, tuple) else (value,)
        if all(map(self._holds, values)):
            return ""
        return (
            "must not be negative" if self == Range(at_least=0) else f"must be {self._in_words()}"
        )

    def _holds(self, value: float) -> bool:
        return (
            not (isinstance(value, float) and not math.isfinite(value))
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def _in_words(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"between {_exact(self.at_least)} and {_exact(self.at_most)}"
        bounds = {
            "above": self.above,
            "at least": self.at_least,
            "at most": self.at_most,
            "below": self.below,
        }
        words = [f"{word} {_exact(bound)}" for word, bound in bounds.items() if bound is not None]
        return " and ".join(words)


def _exact(bound: float) -> str:
    """A bound with all its digits."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def parse_bool(text: str) -> bool:
    """True or False from True/False, yes/no, 1/0, on/off in any case."""
    word = text.strip().lower()
    if word in TRUE_WORDS or word in FALSE_WORDS:
        return word in TRUE_WORDS
    raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")


def parse_numbers(text: str) -> tuple[float, ...]:
    """Numbers from text such as `1,0.5,1.5`, `(1.0, 0.5)` or `0:0.8:5`, five from 0 to 0.8."""
    parts = [part.strip() for part in text.strip("()[] ").split(",")]
    try:
        numbers = tuple(number for part in parts if part for number in _numbers_of(part))
    except ValueError:
        numbers = (math.nan,)
    if len(numbers) > MOST_NUMBERS or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers (finite ones, at most {MOST_NUMBERS})"
        )
    return numbers


def _numbers_of(part: str) -> Iterator[float]:
    if ":" not in part:
        yield float(part)
        return
    first, last, count = part.split(":")
    steps = int(count) - 1
    if not 1 <= steps < MOST_NUMBERS:
        raise ValueError("a range must have two numbers or more, and not too many")
    for i in range(steps + 1):
        # Rounded, so that 0:0.8:5 has the 0.6 that people type.
        yield round(float(first) + i * (float(last) - float(first)) / steps, 10)


def parse_integers(text: str) -> tuple[int, ...]:
    """Whole numbers from text such as `0,1,2`."""
    try:
        return tuple(int(part) for part in text.strip("()[] ").split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers") from None


def parse_names(text: str) -> tuple[str, ...]:
    """Names from text such as `cat,dog`."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def a_seed(value: int) -> str:
    """A rule for `setting`: a seed that all random generators take."""
    return "" if value <= MOST_SEED else "a seed is at most 2^63 - 1"


def positive_numbers(values: Sequence[float]) -> str:
    """A rule for `setting`: one number or more, all above 0."""
    is_kept = bool(values) and all(value > 0 for value in values)
    return "" if is_kept else "must be numbers above 0, such as 1,0.5,1.5"


def distinct(values: Sequence[object]) -> str:
    """A rule for `setting`: nothing is named twice."""
    return "" if len({*values}) == len(values) else "one is named twice"


def distinct_seeds(values: Sequence[int]) -> str:
    """A rule for `setting`: seeds, none twice."""
    return next(filter(None, map(a_seed, values)), distinct(values))


def distinct_numbers(values: Sequence[object]) -> str:
    """A rule for `setting`: one number or more, none twice."""
    return distinct(values) if values else "must be one or more numbers"


def setting(
    default: Any,
    help_text: str,
    choices: Sequence[str] = (),
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    rule: Callable[[Any], str] | None = None,
    alias: str = "",
    decides: str = RESULT,
    in_short_help: bool = False,
) -> Any:
    """A field of a dataclass of settings, which becomes a flag of its name.

    Args:
        default: the value, or a function that makes it.
        help_text: one sentence.
        choices: the words that are allowed; empty: any value of the field's type.
        at_least: smallest number allowed.
        at_most: largest number allowed.
        above: number that all allowed ones are above.
        below: number that all allowed ones are below.
        rule: value -> what it breaks, "" for a good one.
        alias: another name of the flag, shown before the field's.
        decides: RESULT, INPUT or NO_EFFECT.
        in_short_help: shown by `--help`; the others by `--help all`.
    """
    metadata = {
        "help": help_text,
        "choices": tuple(choices),
        "range": Range(at_least, at_most, above, below),
        "rule": rule,
        "alias": alias,
        "decides": decides,
        "in_short_help": in_short_help,
    }
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def plain(value: Any) -> Any:
    """A setting's value as JSON can hold it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


_PARSERS: dict[Any, Any] = {
    tuple[float, ...]: parse_numbers,
    tuple[int, ...]: parse_integers,
    tuple[str, ...]: parse_names,
    Path | None: Path,
}
_METAVARS: dict[Any, str] = {int: "N", float: "X", str: "NAME", Path: "PATH", Path | None: "PATH"}


def add_flags(parser: argparse.ArgumentParser, settings: type, *, is_short: bool = False) -> None:
    """Add a flag to `parser` for each field that the dataclass `settings` itself declares.

    Args:
        parser: gets a group with the heading of `settings`.
        settings: a dataclass whose fields were made by `setting`, with a `heading`.
        is_short: show only those that belong into the short help; all are understood.
    """
    hints = get_type_hints(settings)
    own = [f for f in dataclasses.fields(settings) if f.name in settings.__annotations__]
    group = parser.add_argument_group(settings.heading)  # type: ignore[attr-defined]
    for field in own:
        meta, kind = field.metadata, hints[field.name]
        shown = "" if field.default in (None, ()) else f" (default: {_default_text(field)})"
        help_text = (meta["help"] + shown).replace("%", "%%")
        if is_short and not meta["in_short_help"]:
            help_text = argparse.SUPPRESS
        options: dict[str, Any] = {"help": help_text}
        if kind is bool:
            options |= {"type": parse_bool, "nargs": "?", "const": True, "metavar": "yes|no"}
        else:
            options["type"] = _PARSERS.get(kind, kind)
            options["choices"] = meta["choices"] or None
            options["metavar"] = None if meta["choices"] else _METAVARS.get(kind, "A,B")
        names = [f"--{name}" for name in (meta["alias"], field.name) if name]
        options |= {"dest": field.name, "default": argparse.SUPPRESS}
        group.add_argument(*names, **options)


def _default_text(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return "all CPUs"
    if isinstance(field.default, tuple) and len(field.default) > LONG:
        return f"{len(field.default)} values from {field.default[0]:g} to {field.default[-1]:g}"
    return typed(field.default)


def typed(value: Any) -> str:
    """A setting's value as it is typed after its flag."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(f"{each:g}" if isinstance(each, float) else str(each) for each in value)
    return str(value)


def broken_rules(settings: Any) -> list[str]:
    """What each value outside its declared range or against its rule breaks, one line each."""
    problems = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        broken = field.metadata["range"].broken_by(value) or _broken_name(value)
        rule = field.metadata["rule"]
        if not broken and rule is not None:
            broken = rule(value)
        if broken:
            problems.append(f"--{field.name} {_printable(typed(value))}: {broken}")
    return problems


def _printable(text: str) -> str:
    """The text with what is not UTF-8 in it escaped."""
    return text.encode(errors="backslashreplace").decode()


def _broken_name(value: Any) -> str:
    """What makes a path, or a word that may be one, no name of a file."""
    if not isinstance(value, str | Path):
        return ""
    try:
        longest = max((len(part.encode()) for part in Path(value).parts), default=0)
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename the file or folder"
    return "" if longest <= LONGEST_PART else f"a name has at most {LONGEST_PART} bytes"
