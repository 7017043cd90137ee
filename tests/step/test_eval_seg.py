import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misc.images import read_mask
from misc.metrics import ConfusionMatrix
from step.common.scores import spread
from step.eval_seg import EvalSeg, summary
from tests.helpers.segmentation import VAL_IDS, notes_of, run_seg, scores_of
from tests.helpers.tiny import Run, copy_dataset, copy_run

CHOSEN = (0, 8, 10)  # background, cat, cow


def scores_by_hand(root: Path, folder: Path, suffix: str) -> tuple[float, float]:
    """Mean IoU over all and over the chosen classes."""
    confusion = ConfusionMatrix(21)
    for image_id in VAL_IDS:
        truth = read_mask(root / "SegmentationClass" / f"{image_id}.png")
        confusion.add(truth, read_mask(folder / f"{image_id}{suffix}.png"))
    scores = confusion.scores()
    return scores.miou, scores.miou_over(CHOSEN)


def test_last_and_best_of_every_seed_are_scored_and_named(
    tiny_dataset: Path, segmented: Run
) -> None:
    scores = scores_of(segmented)
    assert (scores["images"], scores["split"]) == (3, "val")
    assert [(r["seed"], r["checkpoint"]) for r in scores["runs"]] == [
        (0, "last"), (0, "best"), (1, "last"), (1, "best"),
    ]  # fmt: skip
    for result in scores["runs"]:
        folder = segmented.out_dir / "seg" / "val" / f"{result['checkpoint']}_seed{result['seed']}"
        for suffix in ("", "_crf"):
            everything, chosen = scores_by_hand(tiny_dataset, folder, suffix)
            assert result[f"miou{suffix}"] == pytest.approx(everything)
            assert result[f"miou_chosen{suffix}"] == pytest.approx(chosen)
        assert result["initialisation"] == "random"
        assert result["labels"] == "the exact masks"


def test_they_are_the_scores_that_the_training_saw(segmented: Run) -> None:
    for result in scores_of(segmented)["runs"]:
        notes = notes_of(segmented, f"seg_seed{result['seed']}.pth")
        entry = notes["best"] if result["checkpoint"] == "best" else notes["validation"][-1]
        assert (result["updates"], result["miou"]) == (
            entry["updates"],
            pytest.approx(entry["miou"]),
        )


def test_mean_and_spread_are_over_the_seeds(segmented: Run) -> None:
    scores = scores_of(segmented)
    for checkpoint in ("last", "best"):
        for name in ("miou", "miou_crf", "miou_chosen", "miou_chosen_crf"):
            values = [r[name] for r in scores["runs"] if r["checkpoint"] == checkpoint]
            found = scores[checkpoint][name]
            assert found["seeds"] == 2
            assert found["mean"] == pytest.approx(np.mean(values))
            assert found["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    (row,) = (line for line in segmented.stdout.splitlines() if line.startswith("eval_seg"))
    assert row.index("last mIoU") < row.index("best on val mIoU")
    assert " +- " in row


def test_the_best_never_stands_alone_and_one_seed_has_no_spread() -> None:
    runs: list[dict[str, Any]] = [
        {"checkpoint": c, "miou": m, "initialisation": "random", "labels": "x"}
        for c, m in (("last", 0.25), ("best", 0.5))
    ]
    both = summary(runs)
    describe = EvalSeg().describe
    assert describe(both) == "last mIoU 25.0; best on val mIoU 50.0"
    assert describe(summary(runs[:1])) == "last mIoU 25.0"
    assert both["last"]["miou"] == {"mean": 0.25, "std": None, "seeds": 1}
    assert spread([0.1, 0.2, 0.3]) == {
        "mean": pytest.approx(0.2), "std": pytest.approx(0.1), "seeds": 3,
    }  # fmt: skip
    assert spread([]) == {"mean": None, "std": None, "seeds": 0}


@pytest.mark.parametrize("record_is_there", [True, False])
def test_weights_of_somebody_else_get_neither_best_nor_notes_of_an_older_training(
    tiny_dataset: Path, segmented: Run, tmp_path: Path, record_is_there: bool
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    for path in (segmented.out_dir / "weights").glob("seg_seed0*"):
        shutil.copy(path, weights)
    shutil.copy(segmented.out_dir / "weights" / "seg_seed1.pth", weights / "seg_seed0.pth")
    if not record_is_there:
        (weights / "seg_seed0.pth.json").unlink()
    before = {path: path.read_bytes() for path in weights.iterdir()}
    done = run_seg(tiny_dataset, tmp_path, "--seg_seeds=0", "--overwrite", "all", "--seg_crf=no")
    assert done.status == 0, done.stderr
    scores = scores_of(done)
    assert [run["checkpoint"] for run in scores["runs"]] == ["last"]
    assert (scores["initialisation"], scores["labels"]) == ("unknown", "unknown")
    others = [
        r for r in scores_of(segmented)["runs"] if (r["seed"], r["checkpoint"]) == (1, "last")
    ]
    assert scores["last"]["miou"]["mean"] == pytest.approx(others[0]["miou"])
    assert {path: path.read_bytes() for path in weights.iterdir()} == before


def test_images_with_a_mask_of_the_augmented_set_alone_are_scored_too(
    tiny_dataset: Path, segmented: Run, tmp_path: Path
) -> None:
    root = copy_dataset(tiny_dataset, tmp_path / "voc")
    (root / "SegmentationClassAug").mkdir()
    name = f"{VAL_IDS[2]}.png"
    shutil.move(root / "SegmentationClass" / name, root / "SegmentationClassAug" / name)
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    flags = ("--steps=eval_seg", "--seg_seeds=0,1", "--eval_classes=cat,cow")
    done = run_seg(root, out_dir, *flags)
    assert done.status == 0, done.stderr
    assert scores_of(done)["last"] == scores_of(segmented)["last"]


def test_masks_that_are_not_there_are_named_with_the_step_that_makes_them(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    refused = run_seg(tiny_dataset, tmp_path, "--steps=eval_seg")
    assert refused.status == 2
    assert f"{tmp_path}/seg/val/last lacks the files of 3 images" in refused.stderr
    assert "Run make_seg for them" in refused.stderr
