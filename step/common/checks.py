"""What is wrong with what a step is going to read: the dataset's checks, and one message of all."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from misc.errors import UserError
from misc.log import progress
from misc.runtime import WorkerPool, workers_for
from misc.workspace import digest
from step.common.scores import IMAGES_A_TASK, chunks
from voc12.problems import (
    count_in_words,
    fit_problems,
    image_problems,
    map_problems,
    misfits,
    problems_of,
    shorten,
)

if TYPE_CHECKING:
    from step.run import Run

__all__ = [
    "fit_problems",
    "image_problems",
    "look_at_files",
    "look_at_pictures",
    "map_problems",
    "misfits",
    "one_message",
    "problems_of",
    "shorten",
]

T = TypeVar("T")


def look_at_files(
    run: "Run",
    look: Callable[[T], str],
    items: Mapping[str, T],
    known: Mapping[str, Any],
    desc: str,
) -> tuple[dict[str, str], dict[str, str]]:
    """What reading the files of images brings to light; what was sound before is not read again.

    Args:
        run: the run, which remembers what is sound.
        look: what worker processes call with an item; what it returns is remembered of a sound one,
            and of a bad one it raises UserError.
        items: image id -> what `look` gets.
        known: image id -> what the answer depends on, as JSON can hold it.
        desc: what the progress bar says.

    Returns:
        image id -> what is wrong, in the order of `items`; image id of the others -> what `look`
        returned.
    """
    keys = {image_id: digest(known[image_id]) for image_id in items}
    remembered = run.fingerprints.remembered(list(keys.values()))
    sound = {i: remembered[keys[i]] for i in items if keys[i] in remembered}
    unread = [image_id for image_id in items if image_id not in sound]
    if not unread:
        return {}, sound
    tasks = [(look, [(i, items[i]) for i in part]) for part in chunks(unread)]
    problems: dict[str, str] = {}
    learnt: dict[str, str] = {}
    with WorkerPool(workers_for(len(unread), run.runtime.num_workers)) as pool:
        looks = pool.map(_look_at, tasks)
        for bad, good in progress(looks, desc=desc, total=len(unread), each=IMAGES_A_TASK):
            problems |= bad
            learnt |= good
    run.fingerprints.remember({keys[image_id]: note for image_id, note in learnt.items()})
    return {i: problems[i] for i in unread if i in problems}, sound | learnt


def _look_at(
    task: tuple[Callable[[T], str], list[tuple[str, T]]],
) -> tuple[dict[str, str], dict[str, str]]:
    look, items = task
    problems, notes = {}, {}
    for image_id, item in items:
        try:
            notes[image_id] = look(item)
        except UserError as error:
            problems[image_id] = error.message
    return problems, notes


def look_at_pictures(
    run: "Run",
    look: Callable[[Path], str],
    paths: Mapping[str, Path],
    contents: Mapping[str, str],
    what: str,
    depends_on: object = None,
) -> tuple[dict[str, str], dict[str, str]]:
    """What decoding pictures of images brings to light; each is looked at once per run.

    Args:
        run: the run.
        look: path -> a note on a sound picture; it raises UserError for a bad one.
        paths: image id -> picture.
        contents: image id -> fingerprint of its content.
        what: the pictures, for the progress bar.
        depends_on: what else the answer depends on, as JSON can hold it.

    Returns:
        image id -> what is wrong; image id of the others -> the note.
    """
    known = run.once(("looked at", what, depends_on), dict[Path, tuple[str, str]])
    new = {i: path for i, path in paths.items() if path not in known}
    if new:
        keys = {i: [what, depends_on, contents[i]] for i in new}
        bad, good = look_at_files(run, look, new, keys, f"checking {what}")
        known.update({new[i]: (problem, "") for i, problem in bad.items()})
        known.update({new[i]: ("", note) for i, note in good.items()})
    problems = {i: known[path][0] for i, path in paths.items() if known[path][0]}
    notes = {i: known[path][1] for i, path in paths.items() if i not in problems}
    return problems, notes


def one_message(problems: Sequence[str]) -> str:
    """One message for all problems."""
    distinct = list(dict.fromkeys(problems))
    return f"{count_in_words(distinct)}, and nothing was started:\n  " + "\n  ".join(distinct)
