"""One run, or a variant of it: what a step may ask of settings, dataset, machine and results."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from misc.config import Config
from misc.workspace import FileFingerprints
from step.common.checks import problems_of
from step.common.results import Ledger
from voc12.files import VocDataset
from voc12.image_labels import TagCache, class_ids_of, find_tags_source, read_tags
from voc12.lists import check_ids, split_ids, stand_in_note, val_ids_if_any

if TYPE_CHECKING:
    from misc.runtime import Runtime

logger = logging.getLogger(__name__)

T = TypeVar("T")
PANELS_FOLDER = "panels"  # below --out_dir: contact sheets
NOTES = ".sbe"  # folder below --out_dir for caches, and for the lock that marks a run


@dataclass(frozen=True)
class Run:
    """Settings and machine, and what follows from them.

    Attributes:
        config: the settings.
        runtime: the machine.
        fingerprints: of files, by their content.
        ledger: what the steps of the plan are going to make.
        memo: what all variants look up once.
        is_only_planned: nothing is to be made or fetched.
    """

    config: Config
    runtime: "Runtime"
    fingerprints: FileFingerprints = field(default_factory=FileFingerprints)
    ledger: Ledger = field(default_factory=Ledger)
    memo: dict[Any, Any] = field(default_factory=dict)
    is_only_planned: bool = False

    @staticmethod
    def of(config: Config, runtime: "Runtime", *, is_only_planned: bool = False) -> "Run":
        """The run with these settings."""
        notes = FileFingerprints(config.out_dir / NOTES / "files.sqlite")
        return Run(config, runtime, notes, is_only_planned=is_only_planned)

    def variant(self, **changes: Any) -> "Run":
        """This run with some settings changed."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **changes))

    def setting(self, name: str) -> Any:
        """A setting that a step declares, for what decides on data; work gets its settings."""
        return getattr(self.config, name)

    def once(self, key: Any, look_up: Callable[[], T]) -> T:
        """What `look_up` finds; all variants share it."""
        if key not in self.memo:
            self.memo[key] = look_up()
        return self.memo[key]

    @property
    def notes(self) -> Path:
        """Folder for caches and the lock."""
        return self.config.out_dir / NOTES

    @cached_property
    def dataset(self) -> VocDataset:
        """The dataset, with saliency maps unless the run goes without."""
        return VocDataset.open(self.config.require_root(), self.config.saliency_root())

    @cached_property
    def train_ids(self) -> list[str]:
        """Images that the networks train on."""
        config = self.config
        return self.split(config.train_aug_list, train=config.train_list, val=config.val_list)

    @property
    def train_notes(self) -> list[str]:
        """What stands in for a missing list of them, where a user may not expect it."""
        config = self.config
        note = stand_in_note(
            self.dataset, config.train_aug_list, train=config.train_list, val=config.val_list
        )
        return [note] if note else []

    @cached_property
    def val_ids(self) -> list[str]:
        """Validation images; none where the dataset lacks the usual list of them."""
        return val_ids_if_any(self.dataset, self.config.val_list)

    @cached_property
    def infer_ids(self) -> list[str]:
        """Images that get pseudo masks."""
        return self.split(self.config.infer_list)

    @cached_property
    def eval_ids(self) -> list[str]:
        """Images that are scored."""
        return self.split(self.config.chainer_eval_set)

    def split(self, name: str, **others: str) -> list[str]:
        """Images of a list; `others` are the lists that stand in for train_aug, or are left out."""
        key = ("split", self.config.voc12_root, name, *others.items())
        return self.once(key, lambda: split_ids(self.dataset, name, **others))

    @cached_property
    def cam_ids(self) -> list[str]:
        """Images that need CAMs: those trained on, masked or scored, each once."""
        lists = [self.train_ids, self.infer_ids]
        if self.dataset.list_path(self.config.chainer_eval_set).exists():
            lists.append(self.eval_ids)
        return _joined(lists, self.dataset.root)

    @cached_property
    def tags(self) -> dict[str, np.ndarray]:
        """Multi-hot tags (C,) of every image that a step may need."""
        config = self.config
        lists = [self.train_ids, self.val_ids]
        for name in (config.infer_list, config.chainer_eval_set):
            if self.dataset.list_path(name).exists():
                lists.append(self.split(name))
        ids = _joined(lists, self.dataset.root)
        key = ("tags", config.voc12_root, self.tags_source, tuple(ids))
        return self.once(
            key, lambda: read_tags(self.dataset, ids, self.tags_source, self.tag_cache)
        )

    @property
    def tag_cache(self) -> TagCache | None:
        """Where the main process keeps tags for the next run."""
        if not self.runtime.is_main:
            return None
        path = self.notes / "tags.npz"
        return self.once(path, lambda: TagCache(path))

    def save_notes(self) -> None:
        """Save what was learnt while looking at the data."""
        self.fingerprints.save()
        if self.tag_cache is not None:
            self.tag_cache.save()

    @property
    def tags_source(self) -> str:
        """Where the tags come from: what `--tags_from` says, or what `auto` finds."""
        source = self.config.tags_from
        return find_tags_source(self.dataset) if source == "auto" else source

    def class_ids(self, image_id: str) -> np.ndarray:
        """Class ids (K,) from 1 that the image's tags name."""
        return class_ids_of(self.tags[image_id])

    def content_of(
        self, what: str, ids: Sequence[str], path_of: Callable[[str], Path], kind: object = None
    ) -> Mapping[str, str]:
        """Fingerprint of a file of each image; each is looked up once per run.

        Args:
            what: the files, for the progress bar.
            ids: the images.
            path_of: image id -> file.
            kind: tells apart what the path of no image does not.
        """
        known: dict[str, str] = self.once((what, path_of(""), kind), dict)
        unknown = [image_id for image_id in ids if image_id not in known]
        if unknown:
            paths = [path_of(image_id) for image_id in unknown]
            found = self.fingerprints.of_all(paths, desc=f"fingerprints of {what}")
            known.update(zip(unknown, found, strict=True))
        return known

    def fetch_problems(self, backbone: str, flag: str = "--backbone_weights") -> list[str]:
        """Why a backbone's ImageNet weights are not available; they are downloaded if missing."""
        if self.is_only_planned:
            return []
        from net.backbone import fetch_imagenet_weights

        return problems_of(lambda: fetch_imagenet_weights(backbone, flag))


def _joined(lists: Sequence[Sequence[str]], root: Path) -> list[str]:
    ids = list(dict.fromkeys(image_id for each in lists for image_id in each))
    check_ids(ids, root)
    return ids
