"""What every step of one run shares: settings, machine, dataset, lists, and where things lie."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from misc.cam_files import CamFolder
from misc.config import Config
from misc.errors import UserError
from misc.runtime import Runtime
from misc.workspace import (
    ArtefactFolder,
    Record,
    WeightsFile,
    content_digest,
    digest,
    stat_digest,
)
from voc12.files import VocDataset
from voc12.image_labels import class_ids_of, find_tags_source, read_tags
from voc12.lists import CRF_SUFFIX, check_ids, split_ids, val_ids_if_any

logger = logging.getLogger(__name__)

TRAINING_STEPS = {"train_cam", "train_bes", "train_seg"}
CamFile = Path | list[Path]


def as_list(file: CamFile) -> list[Path]:
    """The files of one image's CAMs."""
    return [file] if isinstance(file, Path) else file


@dataclass(frozen=True)
class Context:
    """One run: its settings, the machine, and the names of the steps it was asked for."""

    config: Config
    runtime: Runtime
    requested: tuple[str, ...]

    @cached_property
    def dataset(self) -> VocDataset:
        """The dataset, with saliency maps unless the run goes without."""
        return VocDataset.open(self.config.require_root(), self.config.saliency_root())

    @cached_property
    def train_ids(self) -> list[str]:
        """Images that the networks train on."""
        config = self.config
        return split_ids(
            self.dataset, config.train_aug_list, train=config.train_list, val=config.val_list
        )

    @cached_property
    def val_ids(self) -> list[str]:
        """Images that the classifier's loss is reported on."""
        return split_ids(self.dataset, self.config.val_list)

    @cached_property
    def infer_ids(self) -> list[str]:
        """Images that get pseudo masks."""
        return split_ids(self.dataset, self.config.infer_list)

    @cached_property
    def eval_ids(self) -> list[str]:
        """Images that are scored."""
        return split_ids(self.dataset, self.config.chainer_eval_set)

    @cached_property
    def cam_ids(self) -> list[str]:
        """Images that need CAMs: those trained on, masked or scored, each once."""
        lists = [self.train_ids]
        only_trains = set(self.requested) <= TRAINING_STEPS
        if not only_trains or self.dataset.list_path(self.config.infer_list).exists():
            lists.append(self.infer_ids)
        if self.dataset.list_path(self.config.chainer_eval_set).exists():
            lists.append(self.eval_ids)
        ids = list(dict.fromkeys(image_id for ids in lists for image_id in ids))
        check_ids(ids, self.dataset.root)
        return ids

    @cached_property
    def tags(self) -> dict[str, np.ndarray]:
        """Multi-hot tags (C,) of every image that a step may need."""
        ids = list(dict.fromkeys([*self.cam_ids, *self.val_ids_if_any()]))
        cache = self.config.out_dir / "tags.npz" if self.runtime.is_main else None
        return read_tags(self.dataset, ids, self.tags_source, cache)

    @property
    def tags_source(self) -> str:
        """Where the tags come from: what `--tags_from` says, or what `auto` finds."""
        source = self.config.tags_from
        return find_tags_source(self.dataset) if source == "auto" else source

    def val_ids_if_any(self) -> list[str]:
        """Validation images; none where the dataset lacks the usual list of them."""
        return val_ids_if_any(self.dataset, self.config.val_list)

    def class_ids(self, image_id: str) -> np.ndarray:
        """Class ids (K,) from 1 that the image's tags name."""
        return class_ids_of(self.tags[image_id])

    @cached_property
    def cams(self) -> ArtefactFolder:
        """CAMs as this project writes them."""
        return ArtefactFolder(self.config.path("cam_out_dir"), [".npy"], "--cam_out_dir")

    @property
    def remedy_of_cams(self) -> str:
        """What helps against CAMs of other settings, besides making them anew."""
        as_they_are = "--train_cam_pass no --make_cam_pass no"
        return f"name another {self.cams.flag}, take the CAMs as they are ({as_they_are})"

    @cached_property
    def confident_regions(self) -> ArtefactFolder:
        """Confident regions as palette PNGs of class ids."""
        return ArtefactFolder(self.config.path("cam_vis_dir"), [".png"], "--cam_vis_dir")

    @cached_property
    def boundary_labels(self) -> ArtefactFolder:
        """Boundary labels as gray PNGs of codes."""
        folder = self.config.path("boundary_label_dir")
        return ArtefactFolder(folder, [".png"], "--boundary_label_dir")

    @cached_property
    def pseudo_masks(self) -> ArtefactFolder:
        """Pseudo masks before and after the CRF, palette PNGs."""
        folder = self.config.path("sem_seg_out_dir")
        return ArtefactFolder(folder, [".png", f"{CRF_SUFFIX}.png"], "--sem_seg_out_dir")

    @cached_property
    def wsss_bed_masks(self) -> ArtefactFolder:
        """Pseudo masks by WSSS-BED's rule, palette PNGs."""
        folder = self.config.path("wsss_bed_out_dir")
        return ArtefactFolder(folder, [".png"], "--wsss_bed_out_dir")

    @cached_property
    def cam_weights(self) -> WeightsFile:
        """Weights of the classifier."""
        return WeightsFile(self.config.path("cam_weights_name"), "--cam_weights_name")

    @cached_property
    def bes_weights(self) -> WeightsFile:
        """Weights of the boundary network."""
        return WeightsFile(self.config.path("bes_weights_name"), "--bes_weights_name")

    def list_cams(self) -> CamFolder | None:
        """The CAM files that are there now, of any dialect; None without the folder."""
        folder = self.cams.folder
        if not folder.is_dir():
            return None
        return CamFolder(
            folder, num_classes=self.dataset.num_classes, cam_format=self.config.cam_format
        )

    def cam_files(self, ids: Sequence[str]) -> dict[str, CamFile]:
        """Image id -> the file or files of its CAMs; no file for an image without classes.

        Raises:
            UserError: if one of `ids` has none.
        """
        listing = self.list_cams()
        files = {} if listing is None else {i: listing.find(i) for i in ids}
        found = {image_id: file for image_id, file in files.items() if file is not None}
        if len(found) < len(ids):
            missing = next(image_id for image_id in ids if image_id not in found)
            raise UserError(f"No CAM of {missing} in {self.cams.folder}. Run make_cam.")
        return found

    def cams_without_file(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` for which no CAM file of the chosen dialect is there.

        Where that dialect leaves out the files of images without classes, none is missing, and
        the log tells how many have none; but if all of several have none, the folder is not theirs.
        """
        listing = self.list_cams()
        there = set() if listing is None else set(listing.ids())
        without = [image_id for image_id in ids if image_id not in there]
        if listing is None or not listing.absent_is_empty or len(without) == len(ids) > 1:
            return without
        if without:
            self._tell_of_empty_images(without, len(ids))
        return []

    def hint_of_empty_images(self) -> str:
        """What to add where CAMs are missing in a folder of PNGs that nobody named as such."""
        listing = self.list_cams()
        if self.config.cam_format != "auto" or listing is None or not listing.holds_pngs:
            return ""
        return " If these images show no class, pass --cam_format oaa_png."

    def _tell_of_empty_images(self, without: Sequence[str], count: int) -> None:
        text = (
            f"{self.cams.folder}: {len(without)} of {count} images, {without[0]} for one, have no "
            "<id>_<class>.png and are taken for images without classes. If the folder is not "
            "whole, stop here and complete it."
        )
        if self.runtime.is_main and text not in self._told:
            self._told.add(text)
            logger.warning("%s", text)

    @cached_property
    def _told(self) -> set[str]:
        return set()

    def cams_to_make(self) -> list[str]:
        """Images whose CAMs this run would make; none where somebody else put CAMs."""
        if self.cams_are_plugged_in():
            return []
        return self.cam_ids if self.config.overwrite else self.cams_without_file(self.cam_ids)

    def cams_are_plugged_in(self) -> bool:
        """True if the CAM folder was filled by somebody else."""
        if self.cams.record_path.exists():
            return False
        listing = self.list_cams()
        return listing is not None and bool(listing.ids())

    def to_make(self, folder: ArtefactFolder, ids: Sequence[str]) -> list[str]:
        """Those of `ids` whose files this run would make in `folder`."""
        return list(ids) if self.config.overwrite else folder.pending(ids)

    def cam_digest(self) -> str:
        """Fingerprint of the CAMs: of their record, or of all files that somebody put there.

        All files, not those of a list: masks of a second list then go beside those of the first.
        """
        record = Record.read(self.cams.record_path)
        if record is not None:
            return record.digest()
        listing = self.list_cams()
        ids = [] if listing is None else listing.ids()
        return stat_digest(path for file in self.cam_files(ids).values() for path in as_list(file))

    def saliency_digest(self, ids: Iterable[str]) -> str:
        """Fingerprint of the saliency maps of `ids`; a fixed word without saliency."""
        if self.dataset.saliency_root is None:
            return "none"
        return stat_digest(self.dataset.saliency_path(image_id) for image_id in ids)

    def saliency_record(self, settings: dict[str, Any], ids: Iterable[str]) -> Record:
        """The record of what is made, image by image, from CAMs and saliency maps.

        It knows the folder of saliency maps as a whole, for a second list of images, and by those
        of `ids`, for a folder that got further ones.
        """
        name, root, folder = "saliency maps", self.dataset.saliency_root, "none"
        if root is not None:
            # By names: 100,000 paths would take longer to sort than to look at.
            files = sorted(os.listdir(root)) if root.is_dir() else []
            folder = stat_digest(root / file for file in files if file.endswith(".png"))
        inputs = {"CAMs": self.cam_digest(), name: folder}
        return Record(settings, inputs, also={name: self.saliency_digest(ids)})

    def backbone_digest(self) -> str:
        """Fingerprint of the backbone's weights: a word of the settings or the file's content."""
        weights = self.config.backbone_weights
        if weights in ("imagenet", "none"):
            return weights
        path = Path(weights)
        if not path.is_file():
            raise UserError(
                f"--backbone_weights {weights}: no such file. Pass a file, imagenet or none."
            )
        return content_digest(path)

    def list_digest(self, ids: Sequence[str]) -> str:
        """Fingerprint of a list of images and their tags."""
        return digest([ids, [self.class_ids(i).tolist() for i in ids]])
