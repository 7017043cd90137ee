"""Flags of the published code that are spelled differently here, so that its commands work."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from misc.config.config import BACKBONES
from misc.errors import UserError

NETWORK_FLAGS = ("cam_network", "bes_network")


def add_reference_flags(parser: argparse.ArgumentParser, *, is_short: bool = False) -> None:
    """Add to `parser` those flags of the published code that are no settings of ours.

    `apply_reference_flags` gives the parsed ones their meaning.

    Args:
        parser: gets a group.
        is_short: the flags are understood, but not shown.
    """
    group = parser.add_argument_group("flags of the published code, for its commands")

    def add(flag: str, help_text: str, **options: Any) -> None:
        shown = argparse.SUPPRESS if is_short else help_text
        group.add_argument(f"--{flag}", help=shown, default=argparse.SUPPRESS, **options)

    add("test_list", "the same as --make_seg_split", dest="make_seg_split", metavar="NAME")
    add(
        "boundary_labels", "the same as --boundary_label_dir", dest="boundary_label_dir",
        type=Path, metavar="PATH",
    )  # fmt: skip
    for flag in NETWORK_FLAGS:
        suffix = flag.partition("_")[0]
        add(
            flag, f"net.resnet50_{suffix} is --backbone resnet50, and so on", type=_backbone_of,
            metavar="NAME",
        )  # fmt: skip
    add("newL", "refused: only the paper's loss is here", nargs="?", action=_RefuseNewLoss)


def apply_reference_flags(args: argparse.Namespace) -> None:
    """Give parsed flags of the published code their meaning here.

    Args:
        args: parsed flags; those that were not given are not in it.

    Raises:
        UserError: if they name two backbones: both networks have one here.
    """
    named = {flag: getattr(args, flag) for flag in ("backbone", *NETWORK_FLAGS) if flag in args}
    if len(set(named.values())) > 1:
        shown = ", ".join(f"--{flag} ({backbone})" for flag, backbone in named.items())
        raise UserError(
            f"These flags name different backbones: {shown}. Classifier and boundary network have "
            "the same backbone here: pass --backbone alone."
        )
    for backbone in named.values():
        args.backbone = backbone


def _backbone_of(module: str) -> str:
    """The backbone in a module's name such as `net.resnet50_cam`."""
    found = [name for name in BACKBONES if module.startswith(f"net.{name}_")]
    if not found:
        raise argparse.ArgumentTypeError(
            f"{module!r} is no network here; pass --backbone, one of {', '.join(BACKBONES)}"
        )
    return found[0]


class _RefuseNewLoss(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        _namespace: argparse.Namespace,
        _values: str | Sequence[Any] | None,
        option: str | None = None,
    ) -> None:
        parser.error(
            f"{option} switches to a loss of the published code that no paper describes. Only the "
            "paper's loss is here: leave the flag out."
        )
