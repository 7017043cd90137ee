import json
from pathlib import Path
from typing import Any

import pytest

from step.common.cards import FIELDS
from step.score import main
from tests.helpers.masks import TRUTH, Rows, write_dataset, write_masks
from tests.helpers.tiny import Run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


def score(root: Path, masks: Path, *flags: str) -> dict[str, Any]:
    to = masks.parent / "scores"
    status = main([str(masks), f"--data_root={root}", f"--to={to}", "--num_workers=0", *flags])
    assert status == 0
    return json.loads((to / "score.json").read_text())


def refusal(root: Path, masks: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    capsys.readouterr()
    assert main([str(masks), f"--data_root={root}", "--num_workers=0", *flags]) == 2
    return capsys.readouterr().err


def test_the_exact_masks_are_perfect(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = score(root, root / "SegmentationClass")
    assert found["miou"] == found["strict"]["miou"] == found["boundary_f"] == 1
    assert found["ignored"] == 0
    assert found["iou"] == {"background": 1, "cup": 1, "spoon": 1, "fork": None}
    assert found["boundary_f_by_class"] == {"background": 1, "cup": 1, "spoon": 1, "fork": None}
    assert found["confusion"] == [[8, 0, 0, 0], [0, 3, 0, 0], [0, 0, 4, 0], [0, 0, 0, 0]]
    assert (found["split"], found["images"], found["suffix"]) == ("val", 2, "")
    printed = capsys.readouterr().out
    assert f"SegmentationClass/<id>.png\n2 images of val ({root})\n" in printed
    assert "ignored" not in printed


def test_scores_by_class(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks: dict[str, Rows] = {
        # A column of the cup is missed.
        "a": [[0, 0, 0, 1], [0, 0, 0, 1]],
        # The spoon is a fork.
        "b": [[3, 3, 0, 0], [3, 3, 0, 0]],
    }
    found = score(root, write_masks(tmp_path / "masks", masks), "--eval_classes=cup")
    assert found["iou"] == pytest.approx(
        {"background": 8 / 10, "cup": 1 / 3, "spoon": 0, "fork": 0}
    )
    assert found["miou"] == pytest.approx((0.8 + 1 / 3) / 4)
    assert found["miou_chosen"] == pytest.approx((0.8 + 1 / 3) / 2)
    assert found["fn"]["cup"] == pytest.approx(2 / 3)
    assert found["fp"]["background"] == pytest.approx(0.2)
    # In an image of 2 x 4 a match must be at the very pixel: the cup's outline is not, and of the
    # background's one, in the other image, is.
    assert found["boundary_f_by_class"] == {"background": 0.5, "cup": 0, "spoon": 0, "fork": 0}
    assert found["boundary_f"] == 0.125
    printed = capsys.readouterr().out
    assert "background  80.0  20.0 " in printed
    assert max(map(len, printed.splitlines()[2:])) <= 100  # after the paths


def test_ignored_pixels_are_told_and_counted_as_wrong_beside_it(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = {**TRUTH, "b": [[2, 255, 255, 0], [2, 2, 0, 0]]}
    found = score(root, write_masks(tmp_path / "masks", masks))
    assert found["miou"] == 1
    assert found["ignored"] == pytest.approx(2 / 15)
    strict = {"background": 7 / 8, "cup": 1, "spoon": 3 / 4, "fork": None}
    assert found["strict"]["iou"] == pytest.approx(strict)
    assert found["strict"]["miou"] == pytest.approx((7 / 8 + 1 + 3 / 4) / 3)
    assert found["unscored"] == [1, 0, 1, 0]
    printed = capsys.readouterr().out
    assert "mIoU   strict  ignored" in printed
    assert "100.0  87.5    13.3" in printed
    assert "which flatters; strict counts them as wrong" in printed


def test_masks_after_the_crf_come_first_unless_the_suffix_is_named(
    root: Path, tmp_path: Path
) -> None:
    folder = write_masks(tmp_path / "masks", TRUTH, "_crf")
    write_masks(folder, {"a": TRUTH["a"], "b": [[0] * 4] * 2})
    assert (score(root, folder)["suffix"], score(root, folder)["miou"]) == ("_crf", 1)
    plain = score(root, folder, "--suffix=")
    assert plain["suffix"] == ""
    assert plain["miou"] == pytest.approx((8 / 12 + 1 + 0) / 3)


def test_masks_of_the_augmented_set_stand_in_and_are_counted(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = write_masks(tmp_path / "masks", TRUTH)
    (root / "SegmentationClass" / "b.png").unlink()
    assert f"lacks the exact masks of 1 image (b): {root}" in refusal(root, masks, capsys)
    write_masks(root / "SegmentationClassAug", {"b": TRUTH["b"]})
    found = score(root, masks)
    assert (found["miou"], found["images_of_augmented_set"]) == (1, 1)
    assert "2 images of val" in (printed := capsys.readouterr().out)
    assert ", 1 by masks of SegmentationClassAug" in printed


def test_what_cannot_be_scored_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = write_masks(tmp_path / "masks", {"a": TRUTH["a"]})
    assert "masks lacks the masks of 1 image (" in refusal(root, masks, capsys)
    text = refusal(root, masks, capsys, "--suffix=_crf")
    assert "lacks the masks of 2 images (first: a), such as a_crf.png" in text
    assert "is not a folder of masks" in refusal(root, tmp_path / "none", capsys)
    assert "No list" in refusal(root, masks, capsys, "--split=nowhere")
    assert "Unknown class cat" in refusal(root, masks, capsys, "--eval_classes=cat")
    write_masks(masks, {"b": [[4, 4, 0, 0], [4, 4, 0, 0]]})
    text = refusal(root, masks, capsys)
    assert "b.png holds class 4, but the dataset has 3 classes" in text
    write_masks(masks, {"b": [[0, 0]]})
    assert "differ in size" in refusal(root, masks, capsys)


@pytest.mark.parametrize("mine", ['{"miou": 1}', "words"])
def test_only_its_own_results_are_replaced(
    root: Path, tmp_path: Path, mine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    masks, to = root / "SegmentationClass", f"--to={tmp_path}"
    (tmp_path / "score.json").write_text(mine)
    assert f"{tmp_path}/score.json is there, and was not" in refusal(root, masks, capsys, to)
    assert (tmp_path / "score.json").read_text() == mine
    (tmp_path / "score.json").unlink()
    for _ in range(2):
        assert main([str(masks), f"--data_root={root}", "--num_workers=0", to]) == 0


def test_a_card_has_what_the_folder_and_the_flags_state_and_nothing_else(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = write_masks(tmp_path / "masks", TRUTH)
    assert set(score(root, masks)["card"].values()) == {"not stated"}
    card = {"made_by": "S. Else\u001b[31m", "seeds": [0, 1], "thresholds": {"fg": 0.5}, "clip": "",
            "sam": None}  # fmt: skip
    (masks / "card.json").write_text(json.dumps(card))
    found = score(root, masks, "--card", "seeds=7", "saliency=PoolNet, trained on DUTS")
    stated = {"made_by": "S. Else [31m", "seeds": "7", "thresholds": "fg 0.5",
              "saliency": "PoolNet, trained on DUTS"}  # fmt: skip
    assert found["card"] == dict.fromkeys(FIELDS, "not stated") | stated
    printed = capsys.readouterr().out
    assert "saliency           PoolNet, trained on DUTS" in printed
    assert "clip               not stated" in printed


def test_a_template_of_the_card_is_a_card(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--card_template"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert json.loads(text) == dict.fromkeys(FIELDS, "")
    masks = write_masks(tmp_path / "masks", TRUTH)
    (masks / "card.json").write_text(text)
    assert set(score(root, masks)["card"].values()) == {"not stated"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "card.json is not read as JSON"),
        ("[" * 10**5, "card.json is not read as JSON"),
        ("[]", "card.json is no card"),
        ('{"seed": 1}', "card.json: there is no field seed. The fields are made_by, tags"),
    ],
)
def test_a_bad_card_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, reason: str
) -> None:
    masks = write_masks(tmp_path / "masks", TRUTH)
    (masks / "card.json").write_text(content)
    assert reason in refusal(root, masks, capsys)


def test_a_bad_field_of_the_command_line_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = write_masks(tmp_path / "masks", TRUTH)
    assert "--card: there is no field x" in refusal(root, masks, capsys, "--card", "x=1")
    assert "write field=value" in refusal(root, masks, capsys, "--card", "seeds")


def test_somebody_elses_settings_file_is_no_record(root: Path, tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", TRUTH)
    (masks / "settings.json").write_text('{"inputs": 3}')
    assert score(root, masks)["card"]["made_by"] == "not stated"


def test_the_card_of_our_own_masks_is_read_from_their_records(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    to = tmp_path / "scores"
    folder = finished_run.out_dir / "sem_seg"
    flags = [f"--data_root={tiny_dataset}", "--split=train", f"--to={to}", "--num_workers=0"]
    assert main([str(folder), *flags, "--card", "thresholds_chosen=the defaults"]) == 0
    found = json.loads((to / "score.json").read_text())
    card = found["card"]
    assert card["made_by"] == "this project"
    assert card["tags"] == "image tags, to train the classifier"
    assert card["saliency"] == "maps (their model: not stated)"
    assert card["clip"] == card["sam"] == card["other"] == "none"
    assert (card["initialisation"], card["seeds"]) == ("backbone: none", "5")
    assert "sem_seg_bg_thres 0.21" in card["thresholds"]
    assert "conf_fg_thres 0.3" in card["thresholds"]
    assert card["thresholds_chosen"] == "the defaults"
    scores = json.loads((finished_run.out_dir / "scores.json").read_text())["eval_sem_seg"]
    assert found["suffix"] == "_crf"
    assert found["miou"] == scores["miou_crf"]
    assert found["iou"] == scores["iou_crf"]


def test_the_card_of_deeplabs_masks_names_seed_start_and_what_it_learnt_from(
    tiny_dataset: Path, segmented: Run, tmp_path: Path
) -> None:
    to = tmp_path / "scores"
    folder = segmented.out_dir / "seg" / "val" / "last_seed1"
    flags = [f"--data_root={tiny_dataset}", f"--to={to}", "--num_workers=0"]
    assert main([str(folder), *flags]) == 0
    card = json.loads((to / "score.json").read_text())["card"]
    assert card["other"] == "DeepLab-v2 learnt from: the exact masks"
    assert (card["initialisation"], card["seeds"]) == ("DeepLab-v2: random", "1")
    assert card["tags"] == "not stated"
