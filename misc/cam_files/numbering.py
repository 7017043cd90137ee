"""How CAM files number the classes, and what tells that they do it in another way than assumed."""

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from misc.errors import UserError

CONTIGUOUS, COCO91 = "contiguous", "coco91"
CAM_IDS = (CONTIGUOUS, COCO91)
# Source: the categories of instances_train2014.json; ten ids up to 90 were never used.
COCO_CATEGORIES = tuple(sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))
NUM_COCO_CLASSES = len(COCO_CATEGORIES)
CLASS_OF_CATEGORY = {category: i for i, category in enumerate(COCO_CATEGORIES, start=1)}

ENOUGH_IMAGES = 3  # that a renumbering explains and the numbers as read do not
ENOUGH_SHARE, MORE_SHARE = 0.9, 0.1  # of the images: explained at all, and more than as read


@functools.cache
def class_id_of(cam_ids: str, num_classes: int) -> Mapping[int, int]:
    """Number of a class in a file, counted from 0 -> class id from 1.

    Args:
        cam_ids: CONTIGUOUS, or COCO91: the number is COCO's category id minus 1 (0 to 89, with
            gaps), the class id its place among the 80 category ids.
        num_classes: number of foreground classes.

    Raises:
        UserError: for COCO91 with another number of classes than COCO's.
    """
    if cam_ids == CONTIGUOUS:
        return MappingProxyType({number: number + 1 for number in range(num_classes)})
    if num_classes != NUM_COCO_CLASSES:
        raise UserError(
            f"--cam_ids {COCO91} numbers the {NUM_COCO_CLASSES} classes of COCO, but here are "
            f"{num_classes}. Leave it out, or give COCO's classes (a dataset's classes.txt, "
            "--num_classes of convert)."
        )
    return MappingProxyType({c - 1: class_id for c, class_id in CLASS_OF_CATEGORY.items()})


def count_of_numbers(cam_ids: str, num_classes: int) -> int:
    """How many numbers of classes there are, with those that a gap leaves unused."""
    return max(class_id_of(cam_ids, num_classes), default=-1) + 1


@dataclass(frozen=True)
class Renumbering:
    """Another way in which the classes of CAM files may be numbered.

    Attributes:
        looks: what the files look like, in words.
        remedy: what to do about them.
        meant: class ids as they were read -> those that are meant; 0 for one that cannot be.
    """

    looks: str
    remedy: str
    meant: Callable[[Collection[int]], set[int]]


def _without_background(class_ids: Collection[int]) -> set[int]:
    lowered = {class_id - 1 for class_id in class_ids}
    return lowered - {0} if 0 in lowered else {0}


ONE_TOO_HIGH = Renumbering(
    "numbered one too high",
    "In this format classes are numbered from 0: subtract 1 where the files are written.",
    lambda class_ids: {class_id - 1 for class_id in class_ids},
)
BACKGROUND_FIRST = Renumbering(
    "numbered from 1, with 0 as the background",
    "If they are dicts {class: map}, pass --cam_format psa_crf. Otherwise leave out the "
    "background and number the classes from 0 where the files are written.",
    _without_background,
)
BY_CATEGORY = Renumbering(
    "numbered by COCO's 91 category ids",
    f"Pass --cam_ids {COCO91}.",
    lambda class_ids: {CLASS_OF_CATEGORY.get(class_id, 0) for class_id in class_ids},
)
NOT_BY_CATEGORY = Renumbering(
    f"numbered from 0 to {NUM_COCO_CLASSES - 1} without gaps",
    f"Leave out --cam_ids {COCO91}.",
    lambda class_ids: {COCO_CATEGORIES[class_id - 1] for class_id in class_ids},
)


@dataclass(frozen=True)
class Agreement:
    """How the classes of CAM files agree with the images' tags.

    Attributes:
        images: number of images that were compared: all with tags and a class in their files.
        strange: of these, those whose files have a class that the tags lack, sorted.
        contradicting: number of these that also lack a class that the tags name.
        explained_by: the numbering that explains them; None if none does.
    """

    images: int
    strange: tuple[str, ...]
    contradicting: int
    explained_by: Renumbering | None


def compare_with_tags(
    classes: Mapping[str, Collection[int]],
    tags: Mapping[str, Collection[int]],
    num_classes: int,
    cam_ids: str = CONTIGUOUS,
) -> Agreement:
    """Whether CAM files have the classes that the tags name, or would with another numbering.

    Files may have fewer classes than the tags name, and a few others: some methods predict them,
    and VOC's two sets of tags differ for 8 % of the images.

    Args:
        classes: image id -> class ids from 1 of its CAMs, as they were read.
        tags: image id -> class ids that its tags name; images that are not in it are left out.
        num_classes: number of foreground classes.
        cam_ids: how they were read.
    """
    known = sorted(image_id for image_id, ids in classes.items() if len(ids) and image_id in tags)
    strange = tuple(i for i in known if not set(classes[i]) <= set(tags[i]))
    candidates = [ONE_TOO_HIGH, BACKGROUND_FIRST]
    if num_classes == NUM_COCO_CLASSES:
        candidates.append(BY_CATEGORY if cam_ids == CONTIGUOUS else NOT_BY_CATEGORY)
    explained = {
        # A file that would have no class at all says nothing.
        each: sum(set() < each.meant(classes[i]) <= set(tags[i]) for i in known)
        for each in candidates
    }
    best = max(explained, key=lambda each: explained[each])
    more = explained[best] - (len(known) - len(strange))
    is_enough = explained[best] >= ENOUGH_SHARE * len(known)
    is_better = more >= max(ENOUGH_IMAGES, MORE_SHARE * len(known))
    contradicting = sum(not set(tags[i]) <= set(classes[i]) for i in strange)
    return Agreement(len(known), strange, contradicting, best if is_enough and is_better else None)
