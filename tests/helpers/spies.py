"""Spies that note what functions are called with, and end the run once all have seen a call."""

import functools
import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import pytest


class AllSeen(Exception):
    """Every spy was called: nothing that follows is needed."""


def watch(monkeypatch: pytest.MonkeyPatch, targets: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Watch functions or methods, named by their dotted paths.

    The call that completes them raises `AllSeen`.

    Args:
        monkeypatch: takes the spies away after the test.
        targets: what is watched.

    Returns:
        target -> its arguments by name in the last call, filled as calls come.
    """
    wanted = set(targets)
    seen: dict[str, Mapping[str, Any]] = {}

    def spy_on(target: str, real: Any) -> Any:
        signature = inspect.signature(real)

        @functools.wraps(real)
        def spy(*args: Any, **options: Any) -> Any:
            bound = signature.bind(*args, **options)
            bound.apply_defaults()
            seen[target] = bound.arguments
            if seen.keys() == wanted:
                raise AllSeen
            return real(*args, **options)

        return spy

    for target in wanted:
        holder, name = _find(target)
        monkeypatch.setattr(holder, name, spy_on(target, getattr(holder, name)))
    return seen


def _find(target: str) -> tuple[Any, str]:
    """What holds the last part of a dotted path, and that part."""
    *path, name = target.split(".")
    holder = importlib.import_module(path[0])
    for index, part in enumerate(path[1:], 1):
        if not hasattr(holder, part):
            importlib.import_module(".".join(path[: index + 1]))
        holder = getattr(holder, part)
    return holder, name
