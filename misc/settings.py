"""From declared settings to flags: parsers of their text, their help, and their ranges."""

import argparse
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

TRUE_WORDS = ("true", "yes", "1", "on")
FALSE_WORDS = ("false", "no", "0", "off")


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
    if not all(math.isfinite(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers")
    return numbers


def _numbers_of(part: str) -> Iterator[float]:
    if ":" not in part:
        yield float(part)
        return
    first, last, count = part.split(":")
    steps = int(count) - 1
    if steps < 1:
        raise ValueError("a range has two numbers or more")
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


def available_cpus() -> int:
    """Number of CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def setting(
    default: Any,
    group: str,
    help_text: str,
    choices: Sequence[str] = (),
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    alias: str = "",
) -> Any:
    """A field of a dataclass of settings, which becomes a flag of its name.

    Args:
        default: the value, or a function that makes it.
        group: heading of the help that it stands under.
        help_text: one sentence.
        choices: the words that are allowed; empty: any value of the field's type.
        at_least: smallest number allowed.
        at_most: largest number allowed, only together with `at_least`.
        alias: another name of the flag, shown before the field's.
    """
    metadata = {
        "group": group,
        "help": help_text,
        "choices": tuple(choices),
        "range": (at_least, at_most),
        "alias": alias,
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


def add_flags(
    parser: argparse.ArgumentParser, settings: type, groups_in_order: Sequence[str] = ()
) -> None:
    """Add a flag to `parser` for each field of the dataclass `settings`, in groups."""
    hints = get_type_hints(settings)
    groups: dict[str, Any] = {name: parser.add_argument_group(name) for name in groups_in_order}
    for field in dataclasses.fields(settings):
        meta, kind = field.metadata, hints[field.name]
        if meta["group"] not in groups:
            groups[meta["group"]] = parser.add_argument_group(meta["group"])
        shown = "" if field.default in (None, ()) else f" (default: {_default_text(field)})"
        options: dict[str, Any] = {"help": (meta["help"] + shown).replace("%", "%%")}
        if kind is bool:
            options |= {"type": parse_bool, "nargs": "?", "const": True, "metavar": "yes|no"}
        else:
            options["type"] = _PARSERS.get(kind, kind)
            options["choices"] = meta["choices"] or None
            options["metavar"] = None if meta["choices"] else field.name.split("_")[-1].upper()
        names = [f"--{name}" for name in (meta["alias"], field.name) if name]
        options |= {"dest": field.name, "default": argparse.SUPPRESS}
        groups[meta["group"]].add_argument(*names, **options)


def _default_text(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return "all CPUs"
    return typed(field.default)


def typed(value: Any) -> str:
    """A setting's value as it is typed after its flag."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(each if isinstance(each, str) else f"{each:g}" for each in value)
    return str(value)


def out_of_range(settings: Any) -> list[str]:
    """What each value outside its declared range breaks, one line a setting."""
    problems = []
    for field in dataclasses.fields(settings):
        value, (least, most) = getattr(settings, field.name), field.metadata["range"]
        values = value if isinstance(value, tuple) else (value,)
        low = float("-inf") if least is None else least
        high = float("inf") if most is None else most
        if (least, most) != (None, None) and not all(low <= each <= high for each in values):
            problems.append(f"--{field.name} {value}: {_range_text(low, most)}")
    return problems


def _range_text(least: float, most: float | None) -> str:
    if most is not None:
        return f"must be between {least:g} and {most:g}"
    return "must not be negative" if least == 0 else f"must be at least {least:g}"
