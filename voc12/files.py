"""A dataset in VOC layout: which files belong to an image, and how they are read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from misc.errors import UserError, some_images
from voc12.classes import read_class_names

CRF_SUFFIX = "_crf"  # of masks after the CRF
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".JPG", ".JPEG", ".png")
PROJECT = Path(__file__).parents[1]
# The lists of VOC 2012 that come with the project, as commands of the reference name them.
SHIPPED_LISTS = tuple(
    Path("voc12", f"{name}.txt") for name in ("train", "val", "test", "train_aug")
)


def require_photographs(root: Path) -> None:
    """Refuse a folder that is not a dataset's root.

    Raises:
        UserError: naming a folder in it that is one, if there is.
    """
    if (root / "JPEGImages").is_dir():
        return
    inner = [path.parent for path in (*root.glob("*/JPEGImages"), *root.glob("*/*/JPEGImages"))]
    hint = f" Do you mean --data_root {min(inner)}?" if inner else ""
    raise UserError(f"--data_root {root} has no folder JPEGImages with photographs.{hint}")


@dataclass(frozen=True)
class VocDataset:
    """Paths and readers of a dataset in VOC layout; `saliency_root` None means no saliency."""

    root: Path
    class_names: tuple[str, ...]
    saliency_root: Path | None = None

    @staticmethod
    def open(root: Path, saliency_root: Path | None = None) -> "VocDataset":
        """The dataset at `root`, with its class names.

        Raises:
            UserError: if `root` is not a folder or its classes.txt is bad.
        """
        if not root.is_dir():
            raise UserError(
                f"{root} is not a folder. --data_root is the folder that contains JPEGImages."
            )
        return VocDataset(root, read_class_names(root), saliency_root)

    @property
    def num_classes(self) -> int:
        """Number of foreground classes."""
        return len(self.class_names)

    def image_path(self, image_id: str) -> Path:
        """The photograph: the first of .jpg, .jpeg, .png that exists, .jpg if none does."""
        # Plain strings: every start of a run comes here once for each image.
        stem = f"{self.root}/JPEGImages/{image_id}"
        found = (suffix for suffix in IMAGE_SUFFIXES if os.path.exists(stem + suffix))
        return Path(stem + next(found, IMAGE_SUFFIXES[0]))

    def xml_path(self, image_id: str) -> Path:
        """The annotation with the objects' names."""
        return self.root / "Annotations" / f"{image_id}.xml"

    @staticmethod
    def masks_root(root: Path) -> Path:
        """Folder of the exact masks of the dataset at `root`."""
        return root / "SegmentationClass"

    def mask_path(self, image_id: str) -> Path:
        """The exact mask, for scores only."""
        return Path(f"{self.masks_root(self.root)}/{image_id}.png")

    def augmented_mask_path(self, image_id: str) -> Path:
        """The mask of the augmented set (SBD), falling back to the exact one."""
        path = Path(f"{self.root}/SegmentationClassAug/{image_id}.png")
        return path if path.exists() else self.mask_path(image_id)

    def saliency_path(self, image_id: str) -> Path:
        """The saliency map.

        Raises:
            ValueError: if the dataset was opened without saliency.
        """
        if self.saliency_root is None:
            raise ValueError("this dataset was opened without saliency maps")
        return Path(f"{self.saliency_root}/{image_id}.png")

    def list_path(self, split: str) -> Path:
        """File of a split: a path as it is, else a name under ImageSets/Segmentation.

        What names a folder is a path, whether it exists or not; so is `x.txt` where it exists.
        `voc12/train.txt` and the like are the project's own, unless the working directory has them.
        """
        path = Path(split)
        if path in SHIPPED_LISTS and not path.exists():
            return PROJECT / path
        if len(path.parts) > 1 or (path.suffix == ".txt" and path.is_file()):
            return path
        return self.root / "ImageSets" / "Segmentation" / f"{split.removesuffix('.txt')}.txt"


def mask_paths(
    folder: Path, ids: Sequence[str], suffixes: Sequence[str] = (CRF_SUFFIX, "")
) -> dict[str, Path]:
    """Where the masks of `ids` lie in a folder of `<id>_crf.png` or of `<id>.png`.

    The masks after the CRF are taken where all are there, else the plain ones where all of these
    are: two kinds are never mixed.

    Args:
        folder: the folder.
        ids: the images.
        suffixes: what may follow the id: the first one that all images have is taken.

    Raises:
        UserError: if none of them is there for all of `ids`.
    """
    kinds = {suffix: [folder / f"{i}{suffix}.png" for i in ids] for suffix in suffixes}
    missing = {}
    for suffix, paths in kinds.items():
        missing[suffix] = [path for path in paths if not path.is_file()]
        if not missing[suffix]:
            return dict(zip(ids, paths, strict=True))
    nearest = min(missing.values(), key=len)
    raise UserError(f"{folder} lacks the masks of {some_images(nearest)}.")
