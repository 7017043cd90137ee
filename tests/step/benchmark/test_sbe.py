import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.sets import write_cam_set, write_saliency_set
from tests.helpers.tiny import Run, copy_run, run, run_of, states

SEEDS = (0, 3)


@pytest.fixture(scope="module")
def flags(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("sets")
    cams = write_cam_set(tiny_dataset, folder / "cams", blur=3, noise=0.6)
    sals = write_saliency_set(tiny_dataset, folder / "sals", blur=2)
    return [
        "--steps=benchmark",
        f"--benchmark_cams=mine={cams}",
        f"--benchmark_sals=sharp={sals}",
        "--benchmark_act_thres=0.2,0.4",
        "--benchmark_sal_thres=0.5",
        "--benchmark_choose_images=0",
        f"--benchmark_seeds={','.join(map(str, SEEDS))}",
        "--bes_backbone=pretrained",
        "--eval_classes=cat",
    ]


@pytest.fixture(scope="module")
def compared(tiny_dataset: Path, flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    out_dir = tmp_path_factory.mktemp("compared") / "out"
    done = run(tiny_dataset, out_dir, *flags, "--benchmark_sbe")
    assert done.status == 0, done.stderr
    return done


def content_of(done: Run) -> dict[str, Any]:
    return json.loads((done.out_dir / "benchmark" / "benchmark.json").read_text())


def of_networks(done: Run) -> list[dict[str, Any]]:
    return [row for row in content_of(done)["rows"] if row["method"] in ("sbe", "bes")]


@pytest.mark.slow
def test_sbe_and_bes_for_every_seed_in_folders_of_their_own(compared: Run) -> None:
    rows = of_networks(compared)
    assert [(row["method"], row["saliency"], row["seed"]) for row in rows] == [
        ("sbe", "sharp", 0), ("sbe", "sharp", 3), ("bes", "none", 0), ("bes", "none", 3),
    ]  # fmt: skip
    weights = set()
    for row in rows:
        name = f"benchmark/sbe/mine/{row['saliency']}/seed_{row['seed']}"
        scores = json.loads((compared.out_dir / name / "scores.json").read_text())
        assert row["miou"] == scores["eval_sem_seg"]["miou"]
        assert row["miou_crf"] == scores["eval_sem_seg"]["miou_crf"]
        assert row["miou_chosen_crf"] == scores["eval_sem_seg"]["miou_chosen_crf"]
        assert run_of(compared.out_dir / name)["settings"]["seed"] == row["seed"]
        weights.add((compared.out_dir / name / "weights" / "bes.pth").read_bytes())
    assert len(weights) == 4
    shared = compared.out_dir / "benchmark"
    assert len(list((shared / "sbe_regions" / "mine").glob("*.png"))) == 8
    labels = [
        sorted((shared / "sbe_labels" / "mine").glob(f"{n}/*.png")) for n in ("sharp", "none")
    ]
    assert [len(paths) for paths in labels] == [8, 8]
    pairs = zip(*labels, strict=True)
    assert any(with_sal.read_bytes() != without.read_bytes() for with_sal, without in pairs)


@pytest.mark.slow
def test_the_salient_walk_of_each_pair_with_saliency(compared: Run) -> None:
    rows = [row for row in content_of(compared)["rows"] if row["method"] == "salient_walk"]
    assert [(row["saliency"], row["seed"]) for row in rows] == [("sharp", 0), ("sharp", 3)]
    for row in rows:
        folder = compared.out_dir / f"benchmark/sbe/mine/sharp/seed_{row['seed']}"
        scores = json.loads((folder / "scores.json").read_text())
        assert row["miou"] == scores["eval_sem_seg_salient_walk"]["miou"]
        assert row["miou"] != scores["eval_sem_seg"]["miou"]
        assert len(list((folder / "salient_walk").glob("*.png"))) == 16
    (average,) = (
        each for each in content_of(compared)["sbe_over_seeds"] if each["method"] == "salient_walk"
    )
    assert average["miou"] == pytest.approx(np.mean([row["miou"] for row in rows]))
    assert "salient walk" in (compared.out_dir / "benchmark" / "benchmark.txt").read_text()


@pytest.mark.slow
def test_mean_and_spread_over_seeds(compared: Run) -> None:
    rows = content_of(compared)["rows"]
    spreads = content_of(compared)["sbe_over_seeds"]
    assert [(each["method"], each["seeds"]) for each in spreads] == [
        ("sbe", list(SEEDS)), ("salient_walk", list(SEEDS)), ("bes", list(SEEDS)),
    ]  # fmt: skip
    for each in spreads:
        values = [row["miou_crf"] for row in rows if row["method"] == each["method"]]
        assert each["miou_crf"] == pytest.approx(np.mean(values))
        assert each["miou_crf_std"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
        shown = f"{100 * each['miou_crf']:.1f} +- {100 * each['miou_crf_std']:.1f}"
        assert shown in (compared.out_dir / "benchmark" / "benchmark.txt").read_text()


@pytest.mark.slow
def test_a_second_run_trains_nothing(
    tiny_dataset: Path, flags: list[str], compared: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(compared.out_dir, tmp_path / "out")
    made = out_dir / "benchmark" / "sbe"
    before = states(made)
    again = run(tiny_dataset, out_dir, *flags, "--benchmark_sbe")
    assert again.status == 0, again.stderr
    assert states(made) == before
    assert of_networks(again) == of_networks(compared)


@pytest.mark.slow
def test_without_the_flag_what_is_there_and_alike_is_shown(
    tiny_dataset: Path, flags: list[str], compared: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(compared.out_dir, tmp_path / "out")
    shown = run(tiny_dataset, out_dir, *flags)
    assert of_networks(shown) == of_networks(compared)
    other = run(tiny_dataset, out_dir, *flags, "--beta=3", "--theta_diff=0.2")
    assert of_networks(other) == []
    assert not [row for row in content_of(other)["rows"] if row["method"] == "salient_walk"]
    assert "made with a different theta_diff, beta" in other.stderr


@pytest.mark.slow
def test_without_the_benchmark_the_flag_starts_nothing(
    tiny_dataset: Path, flags: list[str], compared: Run, tmp_path: Path
) -> None:
    scored = ["--steps=make_sem_seg", "--sem_seg_scores=cam", *flags[1:2]]
    cams = flags[1].rpartition("=")[2]
    done = run(tiny_dataset, tmp_path / "out", *scored, "--benchmark_sbe", f"--cam_out_dir={cams}")
    assert done.status == 0, done.stderr
    assert not (tmp_path / "out" / "benchmark").exists()


def test_a_mistyped_set_is_named_before_any_other_step(
    tiny_dataset: Path, flags: list[str], tmp_path: Path
) -> None:
    cams = flags[1].rpartition("=")[2]
    steps = ["--steps=eval_cam,benchmark", f"--cam_out_dir={cams}", "--benchmark_cams=mine"]
    done = run(tiny_dataset, tmp_path / "out", *steps, "--benchmark_sbe")
    assert done.status == 2
    assert "--benchmark_cams: 'mine' is not name=folder" in done.stderr
    assert "eval_cam: mIoU" not in done.stderr


def test_problems_of_any_pair_come_before_the_first_training(
    tiny_dataset: Path, flags: list[str], tmp_path: Path
) -> None:
    cams, sals = (flag.partition("=")[2].partition("=")[2] for flag in flags[1:3])
    bad = [f"--benchmark_cams=mine={cams},bad={tmp_path}", f"--benchmark_sals=sharp={sals}"]
    done = run(tiny_dataset, tmp_path / "out", *flags, *bad, "--benchmark_sbe")
    assert done.status == 2
    assert f"{tmp_path} lacks the CAMs" in done.stderr
    assert not list((tmp_path / "out").rglob("*.pth"))
    many = ("--benchmark_act_thres=0:1:999", "--benchmark_sal_thres=0:1:999")
    done = run(tiny_dataset, tmp_path / "out", *flags, *many, "--benchmark_sbe")
    assert done.status == 2
    assert "Take fewer thresholds" in done.stderr
    assert not list((tmp_path / "out").rglob("*.pth"))
