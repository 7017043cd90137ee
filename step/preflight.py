"""Checks before any work: every problem of a step's inputs, each with its path and remedy."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from misc.cam_files import read_cams
from misc.config import FOLDERS, WEIGHTS, Config
from misc.crf import crf_device
from misc.errors import UserError
from misc.log import progress
from misc.workers import WorkerPool
from misc.workspace import (
    ArtefactFolder,
    WeightsFile,
    digest,
    read_json,
    stat_digest,
    write_json,
)
from step.context import CamFile, Context, as_list
from step.scores import chunks
from voc12.classes import class_indices
from voc12.files import VocDataset
from voc12.picture_sizes import IMAGE, MASK, SALIENCY, PictureSizes, Size, sizes_of

SHOWN = 10  # of one kind
STEPS_WITH_CRF = {"make_boundary_label", "make_sem_seg", "make_seg"}


def report(problems: Sequence[str]) -> str:
    """One message for all problems."""
    distinct = list(dict.fromkeys(problems))
    count = f"{len(distinct)} problems" if len(distinct) > 1 else "A problem"
    return f"{count} before anything was started:\n  " + "\n  ".join(distinct)


def problems_of(check: Callable[[], object]) -> list[str]:
    """The problem that `check` raises as UserError; none if it does not."""
    try:
        check()
    except UserError as error:
        return [error.message]
    return []


def setting_problems(context: Context) -> list[str]:
    """Settings that only the dataset, the disk or the machine show to be wrong."""
    config = context.config

    def choose_classes() -> None:
        class_indices(context.dataset.class_names, config.eval_classes)

    problems = [f"--eval_classes: {problem}" for problem in problems_of(choose_classes)]
    problems += [problem for name in FOLDERS for problem in _folder_problems(config, name)]
    for name in WEIGHTS:
        if config.path(name).is_dir():
            problems.append(f"--{name} {config.path(name)} is a folder. Name a file in it.")
        problems += _parent_problems(name, config.path(name))
    if set(context.requested) & STEPS_WITH_CRF:
        crf = problems_of(lambda: crf_device(config.crf, context.runtime.device))
        problems += [f"--crf {config.crf}: {problem}" for problem in crf]
    return problems


def _folder_problems(config: Config, name: str) -> list[str]:
    path = config.path(name)
    if path.exists() and not path.is_dir():
        return [f"--{name} {path} is a file. Name a folder."]
    return _parent_problems(name, path)


def _parent_problems(name: str, path: Path) -> list[str]:
    nearest = next((parent for parent in path.absolute().parents if parent.exists()), None)
    if nearest is None or nearest.is_dir():
        return []
    return [f"--{name} {path}: {nearest} is a file. Name another path."]


def _without(ids: Sequence[str], left_out: Collection[str]) -> list[str]:
    left_out = set(left_out)
    return [image_id for image_id in ids if image_id not in left_out]


def _shorten(problems: list[str], what: str) -> list[str]:
    if len(problems) <= SHOWN:
        return problems
    return [*problems[:SHOWN], f"... and {len(problems) - SHOWN} more {what}"]


def image_problems(dataset: VocDataset, ids: Iterable[str]) -> list[str]:
    """Photographs that are missing or unreadable."""
    sizes = sizes_of(dataset, IMAGE)
    found = (sizes[image_id] for image_id in ids)
    problems = [f"Image: {problem}" for problem in found if isinstance(problem, str)]
    return _shorten(problems, "images")


def saliency_problems(dataset: VocDataset, ids: Iterable[str]) -> list[str]:
    """Saliency maps that are missing, unreadable, or of another size than their image."""
    if dataset.saliency_root is None:
        return []
    remedy = "Put it there, pass --sal_root, or run with --saliency none."
    return _fit_problems(dataset, sizes_of(dataset, SALIENCY), ids, "Saliency map", remedy)


def mask_problems(
    dataset: VocDataset, ids: Iterable[str], flag: str = "--chainer_eval_set"
) -> list[str]:
    """Exact masks that are missing, unreadable, or of another size than their image."""
    remedy = f"Put it there, or score another split with {flag}."
    if flag == "--chainer_eval_set":
        remedy += " Without exact masks pass --eval_cam_pass no --eval_sem_seg_pass no."
    return _fit_problems(dataset, sizes_of(dataset, MASK), ids, "Mask", remedy)


def map_problems(
    dataset: VocDataset, paths: Mapping[str, Path], what: str, remedy: str
) -> list[str]:
    """Maps of images that are missing, unreadable, or of another size than their image."""
    return _fit_problems(dataset, PictureSizes(paths.__getitem__), paths, what, remedy)


def _fit_problems(
    dataset: VocDataset, maps: PictureSizes, ids: Iterable[str], what: str, remedy: str
) -> list[str]:
    problems = [
        f"{what} of {image_id}: {problem}" for image_id, problem in _misfits(dataset, maps, ids)
    ]
    return _shorten([f"{problem} {remedy}" for problem in problems], f"{what.lower()}s")


def _misfits(
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


def tag_problems(context: Context) -> list[str]:
    """Images whose tags cannot be had."""
    try:
        context.tags  # noqa: B018 - read once, kept by the context
    except UserError as error:
        return _shorten(str(error).splitlines(), "tags")
    return []


def artefact_problems(
    context: Context, folder: ArtefactFolder, ids: Sequence[str], made_by: str
) -> list[str]:
    """Pictures of an earlier step that are missing or, where put there, do not fit the images."""
    missing = folder.pending(ids)
    problems = []
    if missing:
        problems.append(
            f"{folder.folder} lacks the files of {len(missing)} images, {missing[0]} for one. "
            f"Run {made_by} for them, or name another {folder.flag}."
        )
    if folder.is_foreign():
        remedy = f"Replace it, or name another {folder.flag}."
        there = _without(ids, missing)
        for suffix in folder.suffixes:
            maps = PictureSizes(functools.partial(folder.path, suffix=suffix))
            misfits = _misfits(context.dataset, maps, there)
            problems += [f"{problem} {remedy}" for _, problem in misfits]
    return _shorten(problems, "files")


def foreign_problems(folder: ArtefactFolder, ids: Sequence[str]) -> list[str]:
    """Files that somebody put where this run would write its own."""
    return [folder.mixture(folder.pending(ids) or ids)] if folder.is_foreign() else []


def weights_problems(weights: WeightsFile, made_by: str) -> list[str]:
    """Weights of an earlier step that are missing."""
    if weights.exists():
        return []
    return [f"No weights {weights.path}. Run {made_by}, or name others with {weights.flag}."]


def cam_problems(context: Context, ids: Sequence[str]) -> list[str]:
    """CAMs that are missing or bad; those put there by somebody else are all read once."""
    missing = context.cams_without_file(ids)
    problems = []
    reported_by_make_cam = "make_cam" in context.requested and context.cams_are_plugged_in()
    if missing and not reported_by_make_cam:
        problems.append(
            f"{context.cams.folder} lacks the CAMs of {len(missing)} images, {missing[0]} for one. "
            f"Put them there, run make_cam, or name another --cam_out_dir."
            f"{context.hint_of_empty_images()}"
        )
    if context.cams_are_plugged_in():
        problems += _bad_cams(context, _without(ids, missing))
    return problems


def _bad_cams(context: Context, ids: Sequence[str]) -> list[str]:
    """What reading every plugged-in CAM brings to light; files once found good are not re-read."""
    memory = context.config.out_dir / "cams_checked.json"
    good: dict[str, str] = read_json(memory) if memory.exists() else {}
    files = context.cam_files(ids)
    stamps = {i: _cam_stamp(context, i, files[i]) for i in ids}
    unread = [image_id for image_id in ids if good.get(image_id) != stamps[image_id]]
    if not unread:
        return []
    tasks = [
        (context.dataset, context.config.cam_format, {i: files[i] for i in part})
        for part in chunks(unread)
    ]
    problems: dict[str, str] = {}
    with WorkerPool(context.runtime.num_workers) as pool:
        for found in progress(pool.map(_read_all, tasks), desc="checking CAMs", total=len(tasks)):
            problems |= found
    write_json(memory, good | {i: stamps[i] for i in unread if i not in problems})
    return _shorten([problems[i] for i in unread if i in problems], "CAMs")


def _cam_stamp(context: Context, image_id: str, cam_file: CamFile) -> str:
    """Fingerprint of all that the check of one image's CAMs depends on."""
    files = [*as_list(cam_file), context.dataset.image_path(image_id)]
    return digest([stat_digest(files), context.config.cam_format, context.dataset.num_classes])


def _read_all(task: tuple[VocDataset, str, dict[str, CamFile]]) -> dict[str, str]:
    """Image id -> what is wrong with its CAMs."""
    dataset, cam_format, files = task
    problems = {}
    sizes = sizes_of(dataset, IMAGE)
    for image_id, cam_file in files.items():
        size = sizes[image_id]
        if isinstance(size, str):
            problems[image_id] = f"Image: {size}"
            continue
        try:
            read_cams(cam_file, size, num_classes=dataset.num_classes, cam_format=cam_format)
        except UserError as error:
            problems[image_id] = str(error)
    return problems
