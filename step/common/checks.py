"""What is wrong with pictures that a step is going to read, each with its path and a remedy."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from misc.errors import UserError
from misc.log import progress
from misc.runtime import WorkerPool
from misc.workspace import digest
from step.common.scores import chunks
from voc12.files import VocDataset
from voc12.picture_sizes import IMAGE, PictureSizes, Size, sizes_of

if TYPE_CHECKING:
    from step.run import Run

T = TypeVar("T")

SHOWN = 10  # of one kind
MORE, REMEDY = "... and", "->"  # begin lines that are not problems by themselves


def problems_of(check: Callable[[], object]) -> list[str]:
    """The problem that `check` raises as UserError; none if it does not."""
    try:
        check()
    except UserError as error:
        return [error.message]
    return []


def shorten(problems: list[str], what: str, remedy: str = "") -> list[str]:
    """The first of many problems, how many more there are, and once what helps against all."""
    shown = problems[:SHOWN]
    if len(problems) > SHOWN:
        shown.append(f"{MORE} {len(problems) - SHOWN} more {what}")
    if shown and remedy:
        shown.append(f"{REMEDY} {remedy}")
    return shown


def unsound_files(
    run: "Run",
    look: Callable[[T], object],
    items: Mapping[str, T],
    known: Mapping[str, Any],
    desc: str,
) -> dict[str, str]:
    """What reading the files of images brings to light; what was sound before is not read again.

    Args:
        run: the run, which remembers what is sound.
        look: what worker processes call with an item; it raises UserError for a bad one.
        items: image id -> what `look` gets.
        known: image id -> what the answer depends on, as JSON can hold it.
        desc: what the progress bar says.

    Returns:
        image id -> what is wrong, in the order of `items`.
    """
    keys = {image_id: digest(known[image_id]) for image_id in items}
    notes = run.fingerprints
    sound = notes.remembered(list(keys.values()))
    unread = [image_id for image_id in items if keys[image_id] not in sound]
    if not unread:
        return {}
    tasks = [(look, [(i, items[i]) for i in part]) for part in chunks(unread)]
    problems: dict[str, str] = {}
    with WorkerPool(run.runtime.num_workers) as pool:
        for part in progress(pool.map(_look_at, tasks), desc=desc, total=len(tasks)):
            problems |= part
    notes.remember([keys[image_id] for image_id in unread if image_id not in problems])
    return {image_id: problems[image_id] for image_id in unread if image_id in problems}


def _look_at(task: tuple[Callable[[T], object], list[tuple[str, T]]]) -> dict[str, str]:
    look, items = task
    found = {image_id: problems_of(functools.partial(look, item)) for image_id, item in items}
    return {image_id: problems[0] for image_id, problems in found.items() if problems}


def image_problems(dataset: VocDataset, ids: Iterable[str]) -> list[str]:
    """Photographs that are missing or unreadable."""
    sizes = sizes_of(dataset, IMAGE)
    looked_up = (sizes[image_id] for image_id in ids)
    problems = [f"Image: {problem}" for problem in looked_up if isinstance(problem, str)]
    return shorten(problems, "images")


def map_problems(
    dataset: VocDataset, paths: Mapping[str, Path], what: str, remedy: str
) -> list[str]:
    """Maps of images that are missing, unreadable, or of another size than their image."""
    return fit_problems(dataset, PictureSizes(paths.__getitem__), paths, what, remedy)


def fit_problems(
    dataset: VocDataset, maps: PictureSizes, ids: Iterable[str], what: str, remedy: str
) -> list[str]:
    """The same of maps whose sizes may be known already."""
    problems = [
        f"{what} of {image_id}: {problem}" for image_id, problem in misfits(dataset, maps, ids)
    ]
    return shorten(problems, "of them", remedy)


def misfits(
    dataset: VocDataset, maps: PictureSizes, ids: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Those of `ids` whose map is missing, unreadable or not of the image's size, and why."""
    images = sizes_of(dataset, IMAGE)
    for image_id in ids:
        size, image = maps[image_id], images[image_id]
        if isinstance(size, str):
            yield image_id, size
        elif size != image and not isinstance(image, str):
            path, image_path = maps.path_of(image_id), images.path_of(image_id)
            yield image_id, f"{path} is {_text(size)}, but {image_path} is {_text(image)}."


def _text(size: Size) -> str:
    return f"{size[1]}x{size[0]}"


def one_message(problems: Sequence[str]) -> str:
    """One message for all problems."""
    distinct = list(dict.fromkeys(problems))
    number = sum(not line.startswith((MORE, REMEDY)) for line in distinct)
    more = "More than " * any(line.startswith(MORE) for line in distinct)
    count = "1 problem" if number == 1 else f"{more}{number} problems"
    return f"{count}, and nothing was started:\n  " + "\n  ".join(distinct)
