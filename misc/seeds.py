"""Seeds that all random generators take."""

import argparse

MOST_SEED = 2**63 - 1  # of torch's and numpy's generators


def parse_seed(text: str) -> int:
    """A seed from its text."""
    if not text.isdecimal() or int(text) > MOST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^63 - 1")
    return int(text)
