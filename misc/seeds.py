"""Flags of what is drawn at random: seeds that all generators take, and numbers of resamples."""

import argparse

MOST_SEED = 2**63 - 1  # of torch's and numpy's generators


def parse_seed(text: str) -> int:
    """A seed from its text."""
    if not text.isdecimal() or int(text) > MOST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^63 - 1")
    return int(text)


def add_resampling_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--resamples` and `--seed`, for intervals by a bootstrap over images."""
    parser.add_argument("--resamples", type=_count, default=1000, help="default: 1000")
    parser.add_argument("--seed", type=parse_seed, default=0, help="of the resamples (default: 0)")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)
