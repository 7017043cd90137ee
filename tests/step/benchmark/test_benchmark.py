import csv
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from misc.cam_files import CamFolder
from misc.images import read_mask
from misc.metrics import ConfusionMatrix
from misc.saliency import read_saliency
from misc.wsss_bed import make_wsss_bed_mask
from step.benchmark import counts as benchmark_counts
from step.common.results import CamReader
from tests.helpers.sets import write_cam_set, write_saliency_set
from tests.helpers.tiny import Run, copy_run, run
from voc12.lists import read_list

STEP = "--steps=benchmark"
ACT, SAL = [0, 0.25, 0.5, 0.75], [0, 0.2, 0.6]
GRID = ("--benchmark_act_thres=0:0.75:4", "--benchmark_sal_thres=0,0.2,0.6")
PICTURES = ("heat_map", "thresholds", "classes")


class Sets(NamedTuple):
    """Folders of two CAM sets and two saliency sets, and the flags that name them."""

    cams: dict[str, Path]
    sals: dict[str, Path]

    def flags(self, *more: str) -> list[str]:
        cams = ",".join(f"{name}={folder}" for name, folder in self.cams.items())
        sals = ",".join(f"{name}={folder}" for name, folder in self.sals.items())
        return [STEP, *GRID, f"--benchmark_cams={cams}", f"--benchmark_sals={sals}", *more]


@pytest.fixture(scope="module")
def sets(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Sets:
    folder = tmp_path_factory.mktemp("sets")
    return Sets(
        {
            "CAM": write_cam_set(tiny_dataset, folder / "strong", blur=3, noise=0.6),
            "weak": write_cam_set(tiny_dataset, folder / "weak", blur=6, noise=1.0, seed=1),
        },
        {
            "MOVE": write_saliency_set(tiny_dataset, folder / "sharp", blur=2),
            "inverse": write_saliency_set(tiny_dataset, folder / "inverse", inverse=True),
        },
    )


@pytest.fixture(scope="module")
def compared(tiny_dataset: Path, sets: Sets, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out_dir = tmp_path_factory.mktemp("compared") / "out"
    flags = sets.flags("--benchmark_choose_images=5", "--chainer_eval_set=val")
    done = run(tiny_dataset, out_dir, *flags, "--eval_classes=cat,car")
    assert done.status == 0, done.stderr
    return done


def rows_of(done: Run) -> list[dict[str, str]]:
    with open(done.out_dir / "benchmark" / "benchmark.csv", newline="") as file:
        return list(csv.DictReader(file))


def content_of(done: Run) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = (done.out_dir / "benchmark" / "benchmark.json").read_text()
    return json.loads(text, parse_constant=refuse)


def ids_of(root: Path, split: str) -> list[str]:
    return read_list(root / "ImageSets" / "Segmentation" / f"{split}.txt")


def confusion_of(root: Path, ids: list[str], sets: Sets, row: dict[str, Any]) -> ConfusionMatrix:
    """Made mask by mask."""
    confusion = ConfusionMatrix(21)
    listing = CamFolder(sets.cams[row["cam"]], num_classes=20)
    for image_id in ids:
        truth = read_mask(root / "SegmentationClass" / f"{image_id}.png")
        cams = listing.read(image_id, truth.shape)
        saliency = None
        if row["saliency"] != "none":
            saliency = read_saliency(sets.sals[row["saliency"]] / f"{image_id}.png")
        mask = make_wsss_bed_mask(
            cams.high_res,
            cams.class_ids,
            saliency,
            act_thres=float(row["act_thres"]),
            sal_thres=float(row["sal_thres"] or 0),
            ignore=row["ignore"] in (True, "True"),
        )
        confusion.add(truth, mask)
    return confusion


def test_every_cell_is_a_row_with_the_score_of_its_masks(
    tiny_dataset: Path, sets: Sets, compared: Run
) -> None:
    rows = [row for row in rows_of(compared) if row["method"] == "wsss_bed_mask"]
    assert len(rows) == 2 * (2 * 2 * len(ACT) * len(SAL) + len(ACT))
    for row in rows[:: len(rows) // 23]:
        confusion = confusion_of(tiny_dataset, ids_of(tiny_dataset, "val"), sets, row)
        assert float(row["miou"]) == pytest.approx(confusion.scores().miou, abs=1e-6)
        strict = confusion.scores(count_unscored=True)
        assert float(row["miou_strict"]) == pytest.approx(strict.miou, abs=1e-6)
        chosen = confusion.scores().miou_over([0, 7, 8])
        assert float(row["miou_chosen"]) == pytest.approx(chosen, abs=1e-6)


def test_json_has_the_rows_and_the_best_cells(compared: Run) -> None:
    content, rows = content_of(compared), rows_of(compared)
    assert len(content["rows"]) == len(rows)
    assert [row["miou"] for row in content["rows"]] == pytest.approx(
        [float(row["miou"]) for row in rows], abs=1e-6
    )
    assert len(content["best"]) == 2 * 3 + 2 * 2  # with and without ignored pixels
    for best in content["best"]:
        same = [
            float(row["miou_strict"])
            for row in rows
            if (row["cam"], row["saliency"], row["ignore"])
            == (best["cam"], best["saliency"], str(best["ignore"]))
        ]
        assert best["miou_strict"] == pytest.approx(max(same), abs=1e-6)
        assert 0 <= best["iou"]["cat"] <= 1
        assert best["iou"]["sofa"] is None
    assert content["settings"]["benchmark_choose_images"] == 5


def test_the_inverse_loses_and_the_best_cell_is_said(compared: Run) -> None:
    best = {
        (row["cam"], row["saliency"]): row["miou"]
        for row in content_of(compared)["best"]
        if not row["ignore"]
    }
    assert max(best, key=best.__getitem__) == ("CAM", "MOVE")
    assert best["CAM", "inverse"] < best["CAM", "none"] < best["CAM", "MOVE"]
    assert "best mIoU" in compared.stdout
    assert "CAM x MOVE" in compared.stdout
    table = (compared.out_dir / "benchmark" / "benchmark.txt").read_text()
    assert table in compared.stderr
    assert next(line for line in table.splitlines() if "<- best" in line).split()[3] == "MOVE"


def test_what_other_thresholds_lose(tiny_dataset: Path, sets: Sets, compared: Run) -> None:
    content = content_of(compared)
    scores = {
        (row["cam"], row["saliency"], row["act_thres"], row["sal_thres"]): row["miou"]
        for row in content["rows"]
        if row["method"] == "wsss_bed_mask" and not row["ignore"]
    }
    best = {(r["cam"], r["saliency"]): r for r in content["best"] if not r["ignore"]}
    for (cam, saliency), row in best.items():
        others = {(each["cam"], each["saliency"]) for each in row["loss_by_thresholds_of"]}
        same_kind = {key for key in best if (key[1] == "none") == (saliency == "none")}
        assert others == same_kind - {(cam, saliency)}
        for each in row["loss_by_thresholds_of"]:
            source = best[each["cam"], each["saliency"]]
            taken = scores[cam, saliency, source["act_thres"], source["sal_thres"]]
            assert each["loss"] == pytest.approx(row["miou"] - taken)
            assert each["loss"] >= 0
    part = best["CAM", "MOVE"]["chosen_on_train_part"]
    assert part["images"] == 5
    taken = scores["CAM", "MOVE", part["act_thres"], part["sal_thres"]]
    assert part["loss"] == pytest.approx(best["CAM", "MOVE"]["miou"] - taken)


def test_the_part_of_train_decides_by_its_own_images(
    tiny_dataset: Path, sets: Sets, compared: Run
) -> None:
    """With all of train as the part, its choice is the best cell of a run scored on train."""
    flags = sets.flags("--benchmark_choose_images=100", "--chainer_eval_set=val")
    on_part = run(tiny_dataset, compared.out_dir.parent / "part", *flags)
    flags = sets.flags("--benchmark_choose_images=0", "--chainer_eval_set=train")
    on_train = run(tiny_dataset, compared.out_dir.parent / "train", *flags)
    assert on_part.status == on_train.status == 0
    best = {(r["cam"], r["saliency"], r["ignore"]): r for r in content_of(on_train)["best"]}
    for row in content_of(on_part)["best"]:
        part = row["chosen_on_train_part"]
        expected = best[row["cam"], row["saliency"], row["ignore"]]
        assert part["images"] == 8
        assert (part["act_thres"], part["sal_thres"]) == (
            expected["act_thres"],
            expected["sal_thres"],
        )
        assert "chosen_on_train_part" not in expected


def test_images_that_choose_and_are_scored_too_are_counted(
    tiny_dataset: Path, sets: Sets, compared: Run, tmp_path: Path
) -> None:
    flags = sets.flags("--benchmark_choose_images=5", "--chainer_eval_set=train")
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 0, done.stderr
    assert "5 of the 5 images that thresholds are chosen on are evaluated too" in done.stderr
    assert "are evaluated too" not in compared.stderr
    for of_run, count in ((done, 5), (compared, 0)):
        parts = [best["chosen_on_train_part"] for best in content_of(of_run)["best"]]
        assert {part["of_these_evaluated_too"] for part in parts} == {count}


def test_published_scores_stand_beside_and_say_what_they_are(compared: Run) -> None:
    published = [r for r in rows_of(compared) if r["method"] == "published_segmentation_network"]
    assert [(r["cam"], r["saliency"], r["miou"], r["std"]) for r in published] == [
        ("CAM", "MOVE", "0.693", "0.001")
    ]
    assert "segmentation networks" in content_of(compared)["published_scores_are"]
    table = (compared.out_dir / "benchmark" / "benchmark.txt").read_text()
    assert "published*" in table
    assert "* mIoU of WSSS-BED's segmentation networks on val, not of pseudo masks" in table


def test_saliency_maps_by_themselves(compared: Run) -> None:
    measures = content_of(compared)["saliency"]
    assert set(measures) == {"MOVE", "inverse"}
    assert measures["MOVE"]["max_f"] > 0.9
    assert measures["MOVE"]["mae"] < 0.1 < 0.9 < measures["inverse"]["mae"]
    assert measures["inverse"]["iou_half"] < 0.1


def test_pictures_as_png_and_svg(compared: Run) -> None:
    for name in PICTURES:
        with Image.open(compared.out_dir / "benchmark" / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
        assert "<svg" in (compared.out_dir / "benchmark" / f"{name}.svg").read_text()[:2000]
    heat_map = (compared.out_dir / "benchmark" / "heat_map.svg").read_text()
    assert heat_map.count('id="best_cell"') == 1


def test_a_second_run_counts_nothing_and_says_the_same(
    tiny_dataset: Path, sets: Sets, compared: Run, tmp_path: Path
) -> None:
    """Whatever the time stamps say: files are known by their content."""
    out_dir = copy_run(compared.out_dir, tmp_path / "out")
    for folder in (*sets.cams.values(), *sets.sals.values()):
        for path in folder.iterdir():
            os.utime(path)
    flags = sets.flags("--benchmark_choose_images=5", "--chainer_eval_set=val")
    again = run(tiny_dataset, out_dir, *flags, "--eval_classes=cat,car")
    assert json.loads((out_dir / "scores.json").read_text())["benchmark"]["images"] == 0
    for name in ("benchmark.csv", "benchmark.txt", "heat_map.svg", "thresholds.png"):
        before = (compared.out_dir / "benchmark" / name).read_bytes()
        assert (again.out_dir / "benchmark" / name).read_bytes() == before


@pytest.mark.parametrize("stop_after", [0, 3, 7, 13, 20])
def test_a_stopped_run_goes_on_within_a_pair(
    tiny_dataset: Path, sets: Sets, compared: Run, tmp_path: Path, stop_after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With images one by one and saved after every second, at most one is counted twice."""
    calls = 0

    def read_or_stop(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += "high_res" in args  # the plan looks at the classes alone
        if calls == stop_after + 1:
            raise KeyboardInterrupt
        return original(*args, **more)

    original = CamReader.__call__
    monkeypatch.setattr("step.common.scores.IMAGES_A_TASK", 1)
    monkeypatch.setattr(benchmark_counts, "TASKS_BETWEEN_SAVES", 2)
    monkeypatch.setattr(CamReader, "__call__", read_or_stop)
    flags = sets.flags("--benchmark_choose_images=5", "--chainer_eval_set=val")
    stopped = run(tiny_dataset, tmp_path / "out", *flags, "--eval_classes=cat,car")
    assert stopped.status == 130
    done = run(tiny_dataset, tmp_path / "out", *flags, "--eval_classes=cat,car")
    assert done.status == 0
    assert 6 * 8 <= calls - 1 <= 6 * 8 + 1
    assert rows_of(done) == rows_of(compared)


def test_several_processes_count_the_same(
    tiny_dataset: Path, sets: Sets, compared: Run, tmp_path: Path
) -> None:
    flags = sets.flags("--benchmark_choose_images=5", "--chainer_eval_set=val", "--num_workers=2")
    done = run(tiny_dataset, tmp_path / "out", *flags, "--eval_classes=cat,car")
    assert done.status == 0, done.stderr
    assert rows_of(done) == rows_of(compared)


def test_other_thresholds_and_changed_files_are_counted_anew(
    tiny_dataset: Path, sets: Sets, compared: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(compared.out_dir, tmp_path / "out")
    flags = sets.flags("--benchmark_choose_images=5", "--chainer_eval_set=val")
    done = run(tiny_dataset, out_dir, *flags, "--benchmark_act_thres=0.3,0.4")
    assert done.status == 0
    assert {row["act_thres"] for row in rows_of(done)} == {"0.3", "0.4", ""}
    assert "counted again" in done.stderr
    path = out_dir / "benchmark" / "counts" / "CAM" / "MOVE.npz"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    again = run(tiny_dataset, out_dir, *flags, "--benchmark_act_thres=0.3,0.4")
    assert "cannot be read" in again.stderr
    assert rows_of(again) == rows_of(done)


def test_the_runs_own_maps_are_compared_by_default(
    tiny_dataset: Path, sets: Sets, tmp_path: Path
) -> None:
    flags = (f"--cam_out_dir={sets.cams['weak']}", "--benchmark_choose_images=0")
    done = run(tiny_dataset, tmp_path / "out", STEP, *GRID, *flags)
    assert done.status == 0, done.stderr
    assert {(r["cam"], r["saliency"]) for r in rows_of(done)} == {("own", "own"), ("own", "none")}
    plain = run(tiny_dataset, tmp_path / "plain", STEP, *GRID, *flags, "--saliency=none")
    assert {(r["cam"], r["saliency"]) for r in rows_of(plain)} == {("own", "none")}
    assert {float(r["ignored"]) for r in rows_of(plain)} == {0}


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--benchmark_cams=folder"], "'folder' is not name=folder"),
        (["--benchmark_cams=a/b=folder"], "is not name=folder"),
        (["--benchmark_cams=..=folder"], "is not name=folder"),
        (["--benchmark_cams=a=x,a=y"], "the name a is used twice"),
        (["--benchmark_sals=none=x"], "none stands for no saliency"),
        (["--benchmark_cams=a=/nowhere"], "/nowhere lacks the CAMs of 8 images"),
        (["--benchmark_act_thres=0.5,0.5"], "one is named twice"),
        (["--benchmark_act_thres=1.5"], "between 0 and 1"),
        (["--benchmark_act_thres=0:1:999", "--benchmark_sal_thres=0:1:999"], "Take fewer"),
        (["--benchmark_sal_thres="], "must be one or more numbers"),
        (["--benchmark_seeds=1,1"], "one is named twice"),
    ],
)
def test_mistakes_are_named(
    tiny_dataset: Path, sets: Sets, tmp_path: Path, flags: list[str], reason: str
) -> None:
    done = run(tiny_dataset, tmp_path / "out", *sets.flags(), *flags)
    assert done.status == 2
    assert reason in done.stderr


def test_missing_maps_are_named_before_anything_is_counted(
    tiny_dataset: Path, sets: Sets, tmp_path: Path
) -> None:
    (tmp_path / "sal").mkdir()
    train, val = ids_of(tiny_dataset, "train"), ids_of(tiny_dataset, "val")
    for image_id in train:
        content = (sets.sals["MOVE"] / f"{image_id}.png").read_bytes()
        (tmp_path / "sal" / f"{image_id}.png").write_bytes(content)
    (tmp_path / "cam").mkdir()
    for path in sets.cams["CAM"].iterdir():
        if path.name[:11] in val:
            (tmp_path / "cam" / path.name).write_bytes(path.read_bytes())
    flags = sets.flags(f"--benchmark_sals=some={tmp_path / 'sal'}", "--chainer_eval_set=val")
    flags.append(f"--benchmark_cams=few={tmp_path / 'cam'}")
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 2
    assert f"{tmp_path / 'sal' / val[0]}.png is missing" in done.stderr
    assert "lacks the CAMs of 8 images" in done.stderr
    assert "or pass --benchmark_choose_images 0" in done.stderr
    assert not (tmp_path / "out" / "benchmark" / "counts").exists()


def test_a_bad_cam_is_named_and_what_was_counted_stays(
    tiny_dataset: Path, sets: Sets, tmp_path: Path
) -> None:
    cams = tmp_path / "cams"
    cams.mkdir()
    for path in sets.cams["CAM"].iterdir():
        (cams / path.name).write_bytes(path.read_bytes())
    bad = next(p for p in sorted(cams.iterdir()) if p.name[:11] in ids_of(tiny_dataset, "train"))
    good = bad.read_bytes()
    bad.write_bytes(good[:50])
    flags = [*sets.flags("--benchmark_choose_images=0"), f"--benchmark_cams=a={cams}"]
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 2
    assert bad.name[:11] in done.stderr
    bad.write_bytes(good)
    assert run(tiny_dataset, tmp_path / "out", *flags).status == 0


def test_one_dialect_for_each_set_of_cams(tiny_dataset: Path, sets: Sets, tmp_path: Path) -> None:
    weak = sets.cams["weak"]
    flags = [f"--benchmark_cams=a={weak}:oaa_png,b={weak}", "--benchmark_choose_images=0"]
    done = run(tiny_dataset, tmp_path / "out", *sets.flags(), *flags)
    assert done.status == 0, done.stderr
    scores = {name: [r["miou"] for r in rows_of(done) if r["cam"] == name] for name in ("a", "b")}
    assert scores["a"] == scores["b"]
    wrong = run(tiny_dataset, tmp_path / "wrong", *sets.flags(), f"--benchmark_cams=a={weak}:irn")
    assert wrong.status == 2
