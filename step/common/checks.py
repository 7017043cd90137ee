"""What is wrong with what a step is going to read: the dataset's checks, and one message of all."""

from collections.abc import Sequence

from voc12.problems import (
    count_in_words,
    fit_problems,
    image_problems,
    map_problems,
    misfits,
    problems_of,
    shorten,
)

__all__ = [
    "fit_problems",
    "image_problems",
    "map_problems",
    "misfits",
    "one_message",
    "problems_of",
    "shorten",
]


def one_message(problems: Sequence[str]) -> str:
    """One message for all problems."""
    distinct = list(dict.fromkeys(problems))
    return f"{count_in_words(distinct)}, and nothing was started:\n  " + "\n  ".join(distinct)
