"""What a mutant is: the code with one small mistake in it, and the tests that must notice."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A mistake.

    Attributes:
        name: what is wrong then, in a few words.
        file: the module.
        old: text that occurs there once.
        new: what stands there instead.
        tests: those that must fail, as pytest names them.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def mutants_of(file: str, tests: str, *rows: tuple[str, ...]) -> tuple[Mutant, ...]:
    """Mutants of one module.

    Args:
        file: the module.
        tests: the module of the tests that must notice, if they name none.
        rows: name, old text, new text, and one test or more.
    """
    return tuple(
        Mutant(name, file, old, new, tuple(t if "::" in t else f"{tests}::{t}" for t in noticing))
        for name, old, new, *noticing in rows
    )
