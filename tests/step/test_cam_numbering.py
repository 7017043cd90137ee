"""CAM files that number the classes in another way than assumed, through the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from misc.cam_files.convert import main as convert
from misc.images import read_mask
from tests.helpers.cam_writers import WRITERS
from tests.helpers.coco import CATEGORY_IDS
from tests.helpers.drawn import draw_boxes_dataset
from tests.helpers.sets import all_ids
from tests.helpers.tiny import Run, copy_run, run, states

SHOWN = [[1, 12], [20], [13, 40], [50], [5, 62], [2], [80], [33]]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images with some of COCO's 80 classes."""
    root = tmp_path_factory.mktemp("coco") / "data"
    draw_boxes_dataset(root, [f"thing {c}" for c in range(1, 81)], SHOWN)
    return root


def write_cams(
    root: Path, folder: Path, number: Callable[[int], int], cam_format: str = "psa"
) -> Path:
    """Perfect CAMs of all images; `number` gives what a file calls a class id."""
    folder.mkdir()
    for image_id in all_ids(root):
        mask = read_mask(root / "SegmentationClass" / f"{image_id}.png")
        classes = [c for c in np.unique(mask).tolist() if c]
        maps = np.stack([0.9 * (mask == c).astype(np.float32) for c in classes])
        WRITERS[cam_format](folder, image_id, [number(c) for c in classes], maps)
    return folder


def by_category(class_id: int) -> int:
    return CATEGORY_IDS[class_id - 1] - 1


def miou_of(done: Run) -> float:
    assert done.status == 0, done.stderr
    return json.loads((done.out_dir / "scores.json").read_text())["eval_cam"]["miou"]


def eval_cam(root: Path, out_dir: Path, cams: Path, *flags: str) -> Run:
    return run(root, out_dir, "--steps=eval_cam", f"--cam_out_dir={cams}", *flags)


@pytest.mark.parametrize("cam_format", ["psa", "toco", "oaa_png", "more"])
def test_coco_s_category_ids_are_read_with_the_flag(
    coco: Path, tmp_path: Path, cam_format: str
) -> None:
    cams = write_cams(coco, tmp_path / "cams", by_category, cam_format)
    flags = [f"--cam_format={cam_format}", "--cam_ids=coco91"]
    assert miou_of(eval_cam(coco, tmp_path / "out", cams, *flags)) == 1


def test_without_it_they_are_refused_with_the_flag_to_pass(coco: Path, tmp_path: Path) -> None:
    cams = write_cams(coco, tmp_path / "cams", by_category)
    refused = eval_cam(coco, tmp_path / "out", cams, "--cam_format=psa")
    assert refused.status == 2
    assert "They look numbered by COCO's 91 category ids. Pass --cam_ids coco91." in refused.stderr
    assert "(first: photo 0, thing 13)" in refused.stderr
    assert not (tmp_path / "out" / "scores.json").exists()


def test_files_that_are_known_to_be_sound_are_compared_again(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one run has learnt of the files tells the next, without a look at them."""
    cams = write_cams(coco, tmp_path / "cams", by_category)
    other = tmp_path / "tags.csv"
    names = {image_id: sorted(np.load(cams / f"{image_id}.npy", allow_pickle=True).item())
             for image_id in all_ids(coco)}  # fmt: skip
    lines = [",".join([i, *(f"thing {k + 1}" for k in keys)]) for i, keys in names.items()]
    other.write_text("\n".join(["id,class", *lines]))
    flags = ["--cam_format=psa", "--panels=0"]
    sound = eval_cam(coco, tmp_path / "out", cams, *flags, f"--tags_from={other}")
    assert sound.status == 0, sound.stderr
    monkeypatch.setattr("step.common.results.read_cams", None)
    refused = eval_cam(coco, tmp_path / "out", cams, *flags, "--cam_eval_thres=0.3")
    assert refused.status == 2
    assert "Pass --cam_ids coco91." in refused.stderr


def test_so_does_the_benchmark(coco: Path, tmp_path: Path) -> None:
    cams = write_cams(coco, tmp_path / "cams", by_category)
    flags = [
        "--steps=benchmark",
        f"--benchmark_cams=theirs={cams}:psa",
        "--benchmark_act_thres=0.5",
    ]
    refused = run(coco, tmp_path / "out", *flags)
    assert refused.status == 2
    assert "Pass --cam_ids coco91." in refused.stderr
    done = run(coco, tmp_path / "out", *flags, "--cam_ids=coco91", "--benchmark_sal_thres=0.5")
    assert done.status == 0, done.stderr
    assert "best mIoU 100.0: theirs" in done.stderr


def test_the_benchmark_names_the_flag_of_the_set_and_has_begun_nothing(
    coco: Path, tmp_path: Path
) -> None:
    cams = write_cams(coco, tmp_path / "gauss", lambda c: c - 1, "psa_crf")
    flags = ["--steps=benchmark", "--benchmark_act_thres=0.5", "--benchmark_sal_thres=0.5"]
    ours = run(coco, tmp_path / "out", *flags, f"--benchmark_cams=gauss={cams}:psa_crf")
    assert ours.status == 0, ours.stderr
    before = states(tmp_path / "out")
    again = [*flags, "--overwrite", "all", f"--benchmark_cams=gauss={cams}"]
    refused = run(coco, tmp_path / "out", *again)
    assert refused.status == 2
    way = f"--benchmark_cams gauss={cams}"
    assert f"Pass {way}:psa or {way}:psa_crf." in refused.stderr
    assert "--cam_format" not in refused.stderr
    assert states(tmp_path / "out") == before
    own = run(coco, tmp_path / "own", *flags, f"--cam_out_dir={cams}")
    assert "Pass --cam_format psa or --cam_format psa_crf." in own.stderr


def test_another_dataset_has_no_category_ids(tiny_dataset: Path, tmp_path: Path) -> None:
    cams = write_cams(tiny_dataset, tmp_path / "cams", lambda c: c - 1, "toco")
    refused = eval_cam(tiny_dataset, tmp_path / "out", cams, "--cam_ids=coco91")
    assert refused.status == 2
    assert "1 problem, and nothing was started" in refused.stderr
    assert "numbers the 80 classes of COCO, but here are 20" in refused.stderr


def test_the_flag_does_not_change_how_our_own_files_are_read(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    """They are ours: numbered without gaps, of 20 classes here."""
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    done = run(tiny_dataset, out_dir, "--steps=eval_cam", "--cam_ids=coco91")
    assert done.status == 0, done.stderr
    assert miou_of(done) == miou_of(finished_run)


@pytest.mark.parametrize(
    ("number", "cam_format", "flags", "told"),
    [
        (lambda c: c, "toco", [], "They look numbered one too high. In this format classes are"),
        (lambda c: c, "psa", ["--cam_format=psa"], "They look numbered one too high"),
        (
            lambda c: c - 1, "psa_crf", ["--cam_format=psa"],
            "with 0 as the background. If they are dicts {class: map}, pass --cam_format psa_crf.",
        ),
    ],
)  # fmt: skip
def test_numbers_that_are_one_too_high_are_refused(
    coco: Path,
    tmp_path: Path,
    number: Callable[[int], int],
    cam_format: str,
    flags: list[str],
    told: str,
) -> None:
    cams = write_cams(coco, tmp_path / "cams", number, cam_format)
    refused = eval_cam(coco, tmp_path / "out", cams, *flags)
    assert refused.status == 2
    assert told in refused.stderr
    assert not (tmp_path / "out" / "scores.json").exists()


def test_classes_that_some_tags_lack_are_told_with_numbers(coco: Path, tmp_path: Path) -> None:
    cams = write_cams(coco, tmp_path / "cams", lambda c: c - 1, "toco")
    shape = read_mask(coco / "SegmentationClass" / "photo 0.png").shape
    WRITERS["toco"](cams, "photo 1", [17, 19], np.full((2, *shape), 0.5, np.float32))
    done = eval_cam(coco, tmp_path / "out", cams)
    assert done.status == 0, done.stderr
    told = f"{cams}: the CAMs of 1 of 6 images have classes that their tags lack"
    assert done.stderr.count(f"{told} (first: photo 1, thing 18).") == 1


def test_converted_they_need_no_flag(
    coco: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cams = write_cams(coco, tmp_path / "cams", by_category)
    rows = (coco / "tags.csv").read_text().splitlines()[1:]
    tags = {name: np.zeros(80, np.float32) for name, *_ in (row.split(",") for row in rows)}
    for name, *things in (row.split(",") for row in rows):
        tags[name][[int(thing.split()[1]) - 1 for thing in things]] = 1
    np.save(tmp_path / "tags.npy", np.array(tags, dtype=object), allow_pickle=True)
    converted = tmp_path / "converted"
    command = ["convert", str(cams), str(converted), "--to", "irn", "--num_workers", "0"]
    command += ["--cam_format", "psa", "--tags", str(tmp_path / "tags.npy"), "--num_classes"]
    assert convert([*command, "80"]) == 2
    assert "They look numbered by COCO's 91 category ids. Pass --cam_ids coco91." in caplog.text
    assert not list(converted.glob("*.npy"))
    coco91 = ["--cam_ids", "coco91", "--overwrite"]
    assert convert([*command, "20", *coco91]) == 2
    assert convert([*command, "80", *coco91]) == 0
    assert miou_of(eval_cam(coco, tmp_path / "out", converted)) == 1
