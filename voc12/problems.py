"""What is wrong with a dataset's pictures, each with its path and a remedy."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from misc.errors import UserError, some_images
from voc12.files import VocDataset
from voc12.picture_sizes import IMAGE, PictureSizes, Size, sizes_of

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


def image_problems(dataset: VocDataset, ids: Iterable[str]) -> list[str]:
    """Photographs that are missing or unreadable."""
    sizes = sizes_of(dataset, IMAGE)
    found = {i: problem for i in ids if isinstance(problem := sizes[i], str)}
    missing, others = _apart(sizes, found, "Photograph")
    told = missing + [f"Image: {problem}" for problem in others.values()]
    is_there = all(os.path.lexists(sizes.path_of(i)) for i in found)
    remedy = "" if is_there else "Put the photographs there, or take their ids out of the lists."
    return shorten(told, "images", remedy)


def map_problems(
    dataset: VocDataset, paths: Mapping[str, Path], what: str, remedy: str
) -> list[str]:
    """Maps of images that are missing, unreadable, or of another size than their image."""
    return fit_problems(dataset, PictureSizes(paths.__getitem__), paths, what, remedy)


def fit_problems(
    dataset: VocDataset, maps: PictureSizes, ids: Iterable[str], what: str, remedy: str
) -> list[str]:
    """The same of maps whose sizes may be known already."""
    missing, others = _apart(maps, dict(misfits(dataset, maps, ids)), what)
    problems = [f"{what} of {image_id}: {problem}" for image_id, problem in others.items()]
    return shorten(missing + problems, "of them", remedy)


def _apart(
    pictures: PictureSizes, found: Mapping[str, str], what: str
) -> tuple[list[str], dict[str, str]]:
    """Several pictures that are missing as one problem, and the problems of the others."""
    missing = [i for i in found if not os.path.lexists(pictures.path_of(i))]
    if len(missing) < 2:
        return [], dict(found)
    first = pictures.path_of(missing[0])
    why = f"{first} is missing, and so are the others."
    if not first.parent.is_dir():
        why = f"there is no folder {first.parent}."
    gone = set(missing)
    others = {i: problem for i, problem in found.items() if i not in gone}
    return [f"{what} of {some_images(missing)}: {why}"], others


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


def count_in_words(problems: Sequence[str]) -> str:
    """How many problems there are, as far as they were counted."""
    number = sum(not line.startswith((MORE, REMEDY)) for line in problems)
    more = "More than " * any(line.startswith(MORE) for line in problems)
    return "1 problem" if number == 1 else f"{more}{number} problems"
