"""How long a training is, and whether the classifier has learnt anything, is told."""

from pathlib import Path

import pytest

from tests.helpers.tiny import run, scores_of


def test_the_plan_tells_how_many_updates_there_will_be(tiny_dataset: Path, tmp_path: Path) -> None:
    planned = run(tiny_dataset, tmp_path, "--bes_num_epoches=40", "--plan")
    assert "missing  4 updates " in planned.stdout
    assert (
        "Warning: train_cam has only 4 updates to learn from 8 images; below 60" in planned.stdout
    )
    assert "Warning: train_bes" not in planned.stdout
    assert "missing  80 updates " in planned.stdout


def test_a_classifier_that_learnt_nothing_is_named(tiny_dataset: Path, tmp_path: Path) -> None:
    finished = run(tiny_dataset, tmp_path, "--steps=train_cam", "--cam_learning_rate=0")
    assert finished.status == 0
    result = scores_of(tmp_path)["train_cam"]
    assert result["updates"] == 4
    assert result["is_at_chance"] is True
    assert result["loss"] > result["chance_loss"]
    assert "AT CHANCE LEVEL: loss" in finished.stdout
    assert "train_cam: 4 updates, 4 images each" in finished.stderr
    (warning,) = result["warnings"]
    assert "below 60 expect little. --preset small takes more" in warning
    assert "train_cam: the classifier is at chance level: it names" in finished.stderr
    assert "--cam_num_epoches" in finished.stderr


@pytest.mark.slow
def test_a_classifier_that_learnt_names_the_tags_of_its_images(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    flags = ("--steps=train_cam", "--cam_num_epoches=40", "--cam_learning_rate=0.05")
    finished = run(tiny_dataset, tmp_path, *flags)
    result = scores_of(tmp_path)["train_cam"]
    assert result["is_at_chance"] is False
    assert result["accuracy"] > 0.8 > result["chance_accuracy"]
    assert "AT CHANCE" not in finished.stdout
    assert f"right in {100 * result['accuracy']:.0f} % (chance" in finished.stdout
