"""Whether pictures that somebody put there are what they are said to be, by their pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from misc.codes import VOID, BoundaryLabel
from misc.errors import UserError
from misc.images import open_picture, read_mask
from step.common.checks import look_at_files, problems_of

if TYPE_CHECKING:
    from step.run import Run

ENOUGH_IMAGES = 3  # that say something of a whole folder
SAMPLE = 50  # saliency maps that are looked at
MOST_AGREE = 0.9


@dataclass(frozen=True)
class Codes:
    """The values that the pixels of a kind of picture may have.

    Attributes:
        what: one such picture, in words.
        allowed: the values.
        are_classes: they are class ids, which the images' tags may be compared with.
    """

    what: str
    allowed: tuple[int, ...]
    are_classes: bool = False


def codes_of_masks(num_classes: int) -> Codes:
    """Those of masks of class ids; 0 is the background."""
    values = (*range(num_classes + 1), VOID)
    return Codes(f"a mask of {num_classes} classes", values, are_classes=True)


LABEL_CODES = Codes("a boundary label", tuple(map(int, BoundaryLabel)))


@dataclass(frozen=True)
class CodedPictures:
    """Pictures of images that somebody put there, and what their values must be.

    Attributes:
        run: the run.
        files: image id -> its pictures.
        contents: image id -> fingerprint of what they hold.
        codes: the values that they may have.
        flag: the flag that names their folder, for messages.
    """

    run: "Run"
    files: Mapping[str, Sequence[Path]]
    contents: Mapping[str, str]
    codes: Codes
    flag: str

    def problems(self) -> list[str]:
        """Pictures with other values, and folders of masks that show nothing of their images."""
        bad, values = self._look()
        if bad:
            (first, *others), count = bad.values(), len(self.files)
            more = f" So it is with {len(bad)} of {count} images." if others else ""
            return [f"{first}{more} Replace what is wrong, or choose another {self.flag}."]
        text, agree = self._disagreement(values)
        return [f"{text} Choose another {self.flag}."] if text and not agree else []

    def warnings(self) -> list[str]:
        """Folders of masks that show little of their images."""
        if not self.codes.are_classes:
            return []
        text, agree = self._disagreement(self._look()[1])
        return [text] if text and agree else []

    def _look(self) -> tuple[dict[str, str], dict[str, set[int]]]:
        """Image id -> what is wrong with its pictures; of the others, the values that they hold."""
        codes, files = self.codes, self.files
        known = {i: [codes.what, list(codes.allowed), self.contents[i]] for i in files}
        items = {i: (codes, files[i]) for i in files}
        desc = f"checking what {self.flag} names"
        bad, notes = look_at_files(self.run, _look_at_codes, items, known, desc)
        return bad, {i: {int(word) for word in note.split(",")} for i, note in notes.items()}

    def _disagreement(self, values: Mapping[str, set[int]]) -> tuple[str, int]:
        """What to say if few masks show a class of their image's tags, and how many do."""
        if not self.codes.are_classes:
            return "", 0
        tags = _tags(self.run, list(values))
        agree = sum(bool(values[i] & tagged) for i, tagged in tags.items())
        if len(tags) < ENOUGH_IMAGES or 2 * agree >= len(tags):
            return "", agree
        folder = next(iter(self.files.values()))[0].parent
        return (
            f"{folder}: the masks of {agree} of {len(tags)} images show a class that their tags "
            "name. Are these other pictures, or masks of other images or another numbering?"
        ), agree


def _look_at_codes(item: tuple[Codes, Sequence[Path]]) -> str:
    """The values of an image's pictures."""
    codes, paths = item
    found: set[int] = set()
    for path in paths:
        values = np.unique(read_mask(path)).tolist()
        strange = sorted(set(values) - set(codes.allowed))
        if strange:
            raise UserError(
                f"{path} holds {strange[0]}, which {codes.what} does not: it holds "
                f"{_in_words(codes.allowed)}."
            )
        found |= set(values)
    return ",".join(map(str, sorted(found)))


def _in_words(values: Sequence[int]) -> str:
    """Values as `0 to 20 and 255`, or one by one."""
    *firsts, last = values
    is_run = len(firsts) > 2 and firsts == list(range(firsts[0], firsts[-1] + 1))
    return f"{f'{firsts[0]} to {firsts[-1]}' if is_run else ', '.join(map(str, firsts))} and {last}"


def masks_for_saliency(run: "Run", ids: Sequence[str]) -> list[str]:
    """A problem if what is read as saliency maps are masks of class ids; a sample tells."""
    root = run.dataset.saliency_root
    tags = _tags(run, ids)
    sample = list(tags)[:: max(1, len(tags) // SAMPLE)]
    if root is None or len(sample) < ENOUGH_IMAGES:
        return []
    values = {image_id: _few_values(run.dataset.saliency_path(image_id)) for image_id in sample}
    alike = [i for i in sample if values[i] and values[i] <= tags[i]]
    # A map of zeros and ones is one, too.
    if len(alike) < MOST_AGREE * len(sample) or all(values[i] == {1} for i in alike):
        return []
    first = alike[0]
    shown = ", ".join(map(str, sorted(values[first])))
    return [
        f"{root}: these are masks of class ids, not saliency maps: {first}.png holds {shown} as "
        "its tags do, and so it is with most. Choose another --sal_root, have maps made by "
        "--saliency make, or run with --saliency none."
    ]


def _few_values(path: Path) -> set[int]:
    """The values of a gray or palette picture, as they are stored, but for 0 and 255."""
    with open_picture(path) as picture:
        if picture.mode not in ("P", "L"):
            return set()
        return {*np.unique(np.asarray(picture)).tolist()} - {0, VOID}


def _tags(run: "Run", ids: Sequence[str]) -> dict[str, set[int]]:
    """Class ids that the tags of these images name; not of those without, or where they are bad."""
    if problems_of(lambda: run.tags):
        return {}  # steps that need them say what is wrong
    tagged = {i: set(run.class_ids(i).tolist()) for i in ids if i in run.tags}
    return {image_id: class_ids for image_id, class_ids in tagged.items() if class_ids}
