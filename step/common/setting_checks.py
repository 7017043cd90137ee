"""Settings that only the dataset, the disk or the machine show to be wrong."""

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from misc.config import DataSettings
from misc.log import is_log
from misc.workspace import ImageFolder
from step.artefacts import MADE_SALIENCY
from step.common.board import package_problem
from step.common.checks import problems_of
from step.common.runfile import path_of
from step.common.scorefile import SCORES_NAME
from step.graph import Artefact, ImageFiles, Node, all_artefacts
from step.run import NOTES, PANELS_FOLDER, Run
from voc12.classes import class_indices
from voc12.text import is_there

LISTS = ("train_list", "train_aug_list", "val_list", "infer_list", "chainer_eval_set")

DATASET_FOLDERS = (
    "JPEGImages", "Annotations", "SegmentationClass", "SegmentationClassAug", "ImageSets",
)  # fmt: skip


def setting_problems(run: Run, nodes: Sequence[Node]) -> list[str]:
    """What is wrong with the settings of these steps, and with the places of all results."""
    problems = _dataset_problems(run, "out_dir", run.config.out_dir)
    is_elsewhere = not problems  # else the same would be said of each of its results
    for artefact in all_artefacts():
        path = artefact.path(run)
        if is_elsewhere:
            problems += _dataset_problems(run, artefact.flag, path)
        problems += _own_file_problems(run, artefact, path)
        if isinstance(artefact, ImageFiles):
            if path.exists() and not path.is_dir():
                problems.append(f"--{artefact.flag} {path} is a file. Name a folder.")
        elif path.is_dir():
            problems.append(f"--{artefact.flag} {path} is a folder. Name a file in it.")
        problems += _link_problems(artefact.flag, path) or _parent_problems(artefact.flag, path)
    if run.config.tensorboard and (problem := package_problem()):
        problems.append(problem)
    problems += _list_problems(run)
    log = run.config.log_path
    if is_there(log) and not is_log(log):
        problems.append(f"--log_name: {log} is there, and is no log. Choose another name.")
    names = {name for node in nodes for name in node.step.own_settings()}
    if "eval_classes" in names:
        wanted = run.config.eval_classes
        classes = problems_of(lambda: class_indices(run.dataset.class_names, wanted))
        problems += [f"--eval_classes: {problem}" for problem in classes]
    if "crf" in names:
        problems += _crf_problems(run)
    return problems


def _list_problems(run: Run) -> list[str]:
    """Lists that were named and do not exist, also those that these steps would not read."""
    named = [
        value
        for field in dataclasses.fields(DataSettings)
        if field.name in LISTS and (value := getattr(run.config, field.name)) != field.default
    ]
    missing = [name for name in named if not is_there(run.dataset.list_path(name))]
    return [problem for name in missing for problem in problems_of(partial(run.split, name))]


def _dataset_problems(run: Run, flag: str, path: Path) -> list[str]:
    """A result is not written among the dataset's own files, whose place was mistyped."""
    own = [run.dataset.root / name for name in DATASET_FOLDERS]
    # The maps that are made here may be those that are read.
    if run.dataset.saliency_root is not None and flag != MADE_SALIENCY.flag:
        own.append(run.dataset.saliency_root)
    real = _real(path)
    holder = next((each for each in own if real.is_relative_to(_real(each))), None)
    if holder is None:
        return []
    return [f"--{flag} {path}: {holder} belongs to the dataset. Choose another folder."]


def _own_file_problems(run: Run, artefact: Artefact, path: Path) -> list[str]:
    """A result does not go where this run writes something else beside its results."""
    config = run.config
    kept = {
        config.out_dir / SCORES_NAME: "scores",
        config.out_dir / PANELS_FOLDER: "contact sheets",
        path_of(config.out_dir): "report of the run",
        config.log_path: "log",
        config.out_dir / NOTES: "notes",
    }
    for other in all_artefacts():
        if other.flag == artefact.flag:
            continue
        stored, words = other.stored(run), other.name.removeprefix("the ")
        kept[stored.record_path] = f"record of {words}"
        staging = stored.staging.path if isinstance(stored, ImageFolder) else stored.training
        kept[staging] = f"unfinished {words}"
    real = _real(path)
    place = next((each for each in kept if _real(each) in (real, *real.parents)), None)
    if place is None:
        return []
    return [f"--{artefact.flag} {path}: {place} is for the {kept[place]}. Choose another path."]


def _real(path: Path) -> Path:
    """The one name of a place, without links and `..`; it need not exist."""
    return Path(os.path.realpath(path))


def _link_problems(flag: str, path: Path) -> list[str]:
    links = (each for each in (path, *path.parents) if each.is_symlink() and not each.exists())
    dead = next(links, None)
    if dead is None:
        return []
    return [f"--{flag} {path}: {dead} is a link to what is not there. Mend the link, or remove it."]


def _parent_problems(flag: str, path: Path) -> list[str]:
    nearest = next((parent for parent in path.absolute().parents if parent.exists()), None)
    if nearest is None or nearest.is_dir():
        return []
    return [f"--{flag} {path}: {nearest} is a file. Choose another path."]


def _crf_problems(run: Run) -> list[str]:
    from misc.crf import crf_device

    backend = run.config.crf
    problems = problems_of(lambda: crf_device(backend, run.runtime.device))
    return [f"--crf {backend}: {problem}" for problem in problems]
