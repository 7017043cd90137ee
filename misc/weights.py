"""Weights on disk: written whole or not at all, loaded strictly."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from misc.errors import UserError
from misc.workspace import atomic_write

logger = logging.getLogger(__name__)

SHOWN_PROBLEMS = 5
PARALLEL_PREFIX = "module."
OPTIONAL_BUFFER = "num_batches_tracked"
ANOTHER = "Get the file again, or pass another."


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the module's state dict to `path`, atomically; its folder is made."""
    write_torch_file(dict(module.state_dict()), path)


def write_torch_file(content: Any, path: Path) -> None:
    """`torch.save`, whole or not at all; the folder is made.

    Tensors are written as the CPU's, wherever they lie, so that any machine can load them.

    Args:
        content: tensors and plain values, in dicts, lists and tuples.
        path: of the file.

    Raises:
        OSError: what the disk refused, where torch speaks of an archive.
    """
    try:
        with atomic_write(path) as file:
            torch.save(_on_cpu(content), file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _on_cpu(content: Any) -> Any:
    if isinstance(content, Tensor):
        return content.cpu()
    if isinstance(content, dict):
        return {key: _on_cpu(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        values = [_on_cpu(value) for value in content]
        return type(content)(*values) if hasattr(content, "_fields") else type(content)(values)
    return content


def load_weights(module: nn.Module, path: Path, *, remedy: str = ANOTHER) -> None:
    """Fill the module from a file of weights: ours, or the IRN family's.

    A module may carry `LEGACY_NAMES`, a mapping from the prefixes of older checkpoints to ours
    (None: knowingly ignored). Such files hold a weight under several names; these must agree.

    Args:
        module: is filled in place.
        path: the file.
        remedy: what to do if it cannot be used.

    Raises:
        UserError: the file is missing, damaged or does not fit the module key by key.
    """
    load_strictly(module, read_state_dict(path, remedy=remedy), source=str(path), remedy=remedy)


def read_state_dict(path: Path, *, remedy: str = ANOTHER) -> dict[str, Tensor]:
    """Read a file that maps parameter names to tensors, executing nothing in it.

    Raises:
        UserError: the file is missing, damaged or something else; it ends with `remedy`.
    """
    state = read_torch_file(path, remedy=remedy)
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise UserError(
            f"{path} holds no weights: a dict from parameter names to tensors is expected (the "
            f"file that `torch.save(model.state_dict(), path)` writes). {remedy}"
        )
    return dict(state)


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], *, source: str, remedy: str = ANOTHER
) -> None:
    """Fill the module in place; every parameter must be there once and finite, and nothing else.

    `num_batches_tracked` may be missing: files older than PyTorch 0.4.1 have none, and only a batch
    norm without momentum would use it.

    Raises:
        UserError: keys that are unknown, missing, of another shape or kind, in conflict or not
            finite, by name; it ends with `remedy`. The module is then unchanged.
    """
    expected = module.state_dict()
    found, problems = _under_our_names(state, expected, getattr(module, "LEGACY_NAMES", {}))
    for key, value in expected.items():
        if key not in found and key.endswith(OPTIONAL_BUFFER):
            found[key] = value
        elif key not in found:
            problems.append(f"missing: {key} {tuple(value.shape)}")
        elif found[key].shape != value.shape:
            problems.append(f"{key} is {tuple(found[key].shape)}, not {tuple(value.shape)}")
        elif _kind(found[key]) != _kind(value):
            problems.append(f"{key} is {_kind(found[key])}, not {_kind(value)}")
    if problems:
        raise UserError(
            f"The weights in {source} do not fit {type(module).__name__}: {_first(problems)}. "
            f"They must have been made with the same backbone and number of classes. {remedy}"
        )
    broken = [key for key in expected if not found[key].isfinite().all()]
    if broken:
        raise UserError(
            f"The weights in {source} cannot be used: NaN or infinite values in {_first(broken)}. "
            f"{remedy}"
        )
    module.load_state_dict(found)


def _first(texts: Sequence[str]) -> str:
    """The first of many texts, and how many more there are."""
    more = f"; and {len(texts) - SHOWN_PROBLEMS} more" * (len(texts) > SHOWN_PROBLEMS)
    return "; ".join(texts[:SHOWN_PROBLEMS]) + more


def _kind(value: Tensor) -> str:
    """What a tensor holds, in words: loading would turn complex numbers into real ones."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return "sparse, quantized or without values"
    if value.is_complex():
        return "complex"
    return "real" if value.is_floating_point() else "whole"


def _under_our_names(
    state: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    legacy_names: Mapping[str, str | None],
) -> tuple[dict[str, Tensor], list[str]]:
    """The state under the module's own keys, and what is wrong with it."""
    found: dict[str, Tensor] = {}
    first_name: dict[str, str] = {}
    problems = []
    for key, value in state.items():
        name = _our_name(key, expected, legacy_names)
        if name is None:
            logger.debug("Ignored %s of an older checkpoint.", key)
        elif name not in expected:
            problems.append(f"unknown: {key}")
        elif name in found and not torch.equal(found[name], value):
            problems.append(f"{key} differs from {first_name[name]}, but both are {name}")
        elif name not in found:
            found[name], first_name[name] = value, key
    return found, problems


def _our_name(
    key: str, expected: Mapping[str, Tensor], legacy_names: Mapping[str, str | None]
) -> str | None:
    """The module's name of a key: as it is, without a wrapper's prefix, or the legacy table's."""
    key = key.removeprefix(PARALLEL_PREFIX)
    if key in expected:
        return key
    for prefix, ours in legacy_names.items():
        if key.startswith(f"{prefix}."):
            return None if ours is None else f"{ours}{key.removeprefix(prefix)}"
    return key


def read_torch_file(path: Path, *, remedy: str = ANOTHER) -> Any:
    """What `torch.save` wrote: tensors and plain values; nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged or holds something else; it ends with `remedy`.
    """
    if not path.is_file():
        raise UserError(f"No weights at {path}. Check the path, or run the step that writes it.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise almost anything
        # Its text is left out: torch advises to load such a file with `weights_only=False`.
        raise UserError(
            f"Cannot read weights from {path} ({type(error).__name__}): it is damaged, or holds "
            f"more than tensors and plain values. {remedy}"
        ) from error
