"""That every benchmark runs, that what it compares agrees, and what the tables say of it."""

import importlib
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from misc.cam_files import read_cams
from tests.benchmarks import all as all_rows
from tests.benchmarks import boundary_label, chain, evaluation, gpu, many_sizes, train_bes
from tests.benchmarks.common import Report
from tests.benchmarks.inputs import PHOTOGRAPH, QUICK_SCALE, read_picture, write_dataset

pytestmark = pytest.mark.slow


def quick_run(name: str, folder: Path, *flags: str) -> dict[str, Any]:
    module = importlib.import_module(f"tests.benchmarks.{name}")
    module.main(["--quick", "--json", str(folder / f"{name}.json"), *flags])
    return json.loads((folder / f"{name}.json").read_text())


def targets_of(result: dict[str, Any]) -> dict[str, bool | None]:
    return {target["what"]: target["reached"] for target in result["targets"]}


@pytest.mark.parametrize(
    ("name", "parts", "agreements"),
    [
        (
            "boundary_label",
            ["reference", "1 threads", "floor", "area x4", "classes 18", "2 processes", "1 images"],
            ["share of codes that differ"],
        ),
        (
            "sem_seg",
            [
                "forward of",
                "dense squarings",
                "floor",
                "area x4",
                "classes 18",
                "all in line",
                "CRF",
            ],
            [],
        ),
        (
            "train_bes",
            ["ours: ", "reference: ", "floor", "reading one crop", "area x4", "images 16"],
            ["gradient buffers of the backbone, MiB", "error of the gradients, of the largest"],
        ),
        (
            "make_cam",
            ["scale 2", "sum of", "reference", "floor", "area x4", "classes 18", "2 worker"],
            ["largest difference from the reference's CAMs"],
        ),
        (
            "chain",
            [
                "train_cam",
                "make_cam",
                "make_boundary_label",
                "train_bes",
                "make_sem_seg",
                "eval_",
                "bf16",
            ],
            [
                "make_cam: difference between both ways",
                "make_boundary_label: difference between both ways",
            ],
        ),
        (
            "evaluation",
            ["all in memory", "100 thresholds over one", "floor", "area x4", "2 processes"],
            [],
        ),
    ],
)
def test_quick_run_writes_its_rows_and_both_ways_agree(
    name: str, parts: list[str], agreements: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    threads = torch.get_num_threads()
    result = quick_run(name, tmp_path)
    assert torch.get_num_threads() == threads
    assert f"## {result['title']}" in capsys.readouterr().out
    names = " ".join(row["what"] for row in result["rows"])
    for part in parts:
        assert part in names
    reached = targets_of(result)
    for agreement in agreements:
        assert reached[agreement] is True
    errors = [row["error"] for row in result["rows"] if "error" in row]
    assert all(error < 1e-3 for error in errors)


def test_the_rows_of_the_chain_can_be_handed_to_other_processes() -> None:
    for row in chain.ROWS:
        assert pickle.loads(pickle.dumps(row)).step == row.step


def test_what_is_timed_as_the_references_labels_are_these() -> None:
    picture = read_picture(QUICK_SCALE)
    expected = boundary_label.reference_label(picture, "torch")
    assert len(np.unique(expected)) > 3
    assert np.mean(boundary_label.our_label(picture) != expected) < 1e-3


def test_the_photograph_is_the_recorded_one_at_any_size() -> None:
    full, small = read_picture(), read_picture(QUICK_SCALE, 4)
    assert full.image.shape == (375, 500, 3)
    assert full.cam.shape[1:] == full.mask.shape == full.saliency.shape == (375, 500)
    assert small.image.shape == (75, 100, 3)
    assert small.cam.shape == (4, 75, 100)
    assert small.class_ids.tolist() == [1, 2, 3, 4]
    assert PHOTOGRAPH == "2007_000011"


def test_a_dataset_has_all_files_of_each_image(tmp_path: Path) -> None:
    ids = write_dataset(tmp_path, 3, read_picture(QUICK_SCALE))
    assert ids == ["000000", "000001", "000002"]
    for folder in ("voc/JPEGImages", "voc/Sal", "voc/SegmentationClass", "cam"):
        assert sorted(path.stem for path in (tmp_path / folder).iterdir()) == ids


def test_all_in_memory_scores_the_same(tmp_path: Path) -> None:
    write_dataset(tmp_path, 1, read_picture(QUICK_SCALE))
    pairs = evaluation.masks_of(tmp_path, 3)
    one_by_one, at_once = evaluation.one_by_one(pairs), evaluation.all_in_memory(pairs)
    np.testing.assert_array_equal(one_by_one.matrix, at_once.matrix)
    assert one_by_one.matrix.sum() > 0


def test_the_reference_form_keeps_gradients_of_its_backbone() -> None:
    network = train_bes.reference_form("resnet18", "cpu")
    batch = train_bes.make_batch(32, 1, "cpu")
    train_bes.step(network, train_bes.optimizer_of(network), batch)
    assert train_bes.backbone_buffers_mib(network) > 40


def test_on_the_cpu_every_row_of_the_gpu_list_has_a_number(tmp_path: Path) -> None:
    result = quick_run("gpu", tmp_path, "--device=cpu")
    values = {row["what"]: row["value"] for row in result["rows"]}
    assert list(values) == [row.what for row in gpu.ROWS.values()]
    for row in gpu.ROWS.values():
        if row.precision == "fp16":
            said = "refused: --precision fp16 needs a GPU. Use fp32 or bf16 on the CPU."
            assert values[row.what] == said
        else:
            assert values[row.what] > 0, row.what
    with_target = [row.what for row in gpu.ROWS.values() if row.target]
    assert [target["what"] for target in result["targets"]] == with_target
    assert all(target["measured"] == values[target["what"]] for target in result["targets"])
    differing = [row["differing"] for row in result["rows"] if "differing" in row]
    assert differing[0] == 0  # the CPU's regions are the CPU's
    assert len(differing) == 2


def test_a_row_that_fails_is_named_and_the_others_run(tmp_path: Path) -> None:
    report = Report("Trial", machine={})
    bench = gpu.Bench(tmp_path, "cpu", 2, quick=True)  # nothing is prepared
    assert gpu.measure(report, bench, ["make_cam", "walk"]) == ["make_cam"]
    first, second = report.rows
    assert first["what"] == "make_cam over its forwards alone"
    assert str(first["value"]).startswith("failed: ")
    assert "is not a folder" in str(first["value"])
    assert isinstance(second["value"], float)
    assert [target["measured"] for target in report.targets] == [None, second["value"]]


def test_a_row_brings_the_one_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = quick_run("gpu", tmp_path, "--only=train_bes_bf16,walk")
    assert [row["what"] for row in result["rows"]] == [
        "walk, ms an image",
        "label synthesis, images a second",
        "train_bes, bf16, images a second",
    ]


def test_without_a_card_the_gpu_list_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = quick_run("gpu", tmp_path)
    assert len(result["rows"]) == len(gpu.ROWS)
    assert {row["value"] for row in result["rows"]} == {None}
    assert set(targets_of(result).values()) == {None}
    out, error = capsys.readouterr()
    assert out.count("not measured") == len(gpu.ROWS) + 2 * len(result["targets"])
    assert "--device cpu measures every row" in error
    assert gpu.main(["--quick", "--device=cuda"]) == 2
    assert "no CUDA device found" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_with_a_card_the_gpu_list_has_numbers(tmp_path: Path) -> None:
    result = quick_run("gpu", tmp_path)
    assert all(row["value"] > 0 for row in result["rows"])


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.height, picture.width


def sizes_of(root: Path) -> list[tuple[int, int]]:
    """(height, width) of all images, after a look whether all parts of an image have one size."""
    sizes = []
    for path in sorted((root / "voc" / "JPEGImages").iterdir()):
        sizes.append(size_of(path))
        for folder in ("Sal", "SegmentationClass"):
            assert size_of(root / "voc" / folder / f"{path.stem}.png") == sizes[-1]
        # Refused if the size is another.
        assert len(read_cams(root / "cam" / f"{path.stem}.npy", sizes[-1], num_classes=20).cam)
    return sizes


def test_images_have_many_sizes_of_voc(tmp_path: Path) -> None:
    sizes = many_sizes.draw_sizes(2000)
    assert sizes == many_sizes.draw_sizes(2000)
    assert sizes[:5] == many_sizes.draw_sizes(5)
    assert len(set(sizes)) > 80
    assert 0.37 < sizes.count((375, 500)) / 2000 < 0.44  # 284 of the 700 photographs
    many_sizes.write_many(tmp_path / "recorded", 3, scale=0.2)
    assert sizes_of(tmp_path / "recorded") == many_sizes.draw_sizes(3, 0.2)
    photographs = tmp_path / "recorded" / "voc"
    many_sizes.write_many(tmp_path / "own", 4, scale=0.1, photographs=photographs)
    assert sizes_of(tmp_path / "own") == many_sizes.draw_sizes(4, 0.1)


def test_images_beyond_those_that_differ_are_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_sizes, "DISTINCT", 2)
    many_sizes.write_many(tmp_path, 5, scale=0.1)
    first, second = many_sizes.draw_sizes(2, 0.1)
    assert sizes_of(tmp_path) == [first, second, first, second, first]


def test_targets_are_held_against_what_was_measured() -> None:
    report = Report("Trial", machine={})
    report.target("low enough", 1.0, at_most=1)
    report.target("not high enough", 1.0, at_least=1.3)
    report.target("unknown", None, at_most=1)
    report.target("no number", math.nan, at_most=1)
    assert [target["reached"] for target in report.targets] == [True, False, None, False]
    assert [target["target"] for target in report.targets][:2] == ["at most 1", "at least 1.3"]


def test_all_writes_every_table_and_names_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"cpu": "some cpu", "commit": "abc", "torch": "2"}

    def fake_run(names: list[str], folder: Path, *, quick: bool, squarings: int) -> list[str]:
        assert (names, quick, squarings) == (["random_walk", "crf"], True, 2)
        report = Report("Random walk", quick=quick, machine={})
        report.add("ours", seconds=0.05)
        report.target("seconds", 0.05, at_most=0.12)
        report.finish(folder / "random_walk.json")
        return ["crf"]

    monkeypatch.setattr(all_rows, "run", fake_run)
    monkeypatch.setattr(all_rows, "machine_info", lambda: machine)
    file = tmp_path / "new" / "RESULTS.md"
    status = all_rows.main(
        ["--quick", "--only=random_walk,crf", "--squarings=2", f"--markdown={file}"]
    )
    assert status == 1
    text = file.read_text()
    for part in (
        "some cpu", "commit abc", "torch 2", "quick run", "**crf failed.**", "## Random walk",
        "| random_walk | seconds | at most 0.12 | 0.05 | yes |", "| ours | 0.05 |",
    ):  # fmt: skip
        assert part in text
    file.write_text(f"{text}## Real data\n\nby hand\n")
    all_rows.main(["--quick", "--only=random_walk,crf", "--squarings=2", f"--markdown={file}"])
    assert file.read_text() == f"{text}## Real data\n\nby hand\n"


def test_all_runs_a_row_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert all_rows.run(["gpu"], tmp_path, quick=True, squarings=1) == []
    assert all_rows.read_results(["gpu", "crf"], tmp_path).keys() == {"gpu"}


def test_every_row_can_be_imported() -> None:
    for name in all_rows.ROWS:
        assert callable(importlib.import_module(f"tests.benchmarks.{name}").main)
