import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from step.compare import main
from tests.helpers.masks import TRUTH, write_dataset, write_masks

HALF = {**TRUTH, "b": [[2, 0, 0, 0], [2, 0, 0, 0]]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


@pytest.fixture
def folders(root: Path, tmp_path: Path) -> list[str]:
    """The exact masks, and such with half a spoon."""
    half = write_masks(tmp_path / "half", HALF)
    return [str(half), f"exact={root / 'SegmentationClass'}"]


def compare(root: Path, to: Path, *arguments: str) -> dict[str, Any]:
    assert main([*arguments, f"--data_root={root}", f"--to={to}", "--num_workers=0"]) == 0
    return json.loads((to / "compare.json").read_text())


def refusal(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments, f"--data_root={root}", "--num_workers=0"]) == 2
    return capsys.readouterr().err


def test_folders_are_scored_and_differ_from_the_first(
    root: Path, tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare(root, tmp_path / "to", *folders)["folders"]
    miou = (8 / 10 + 1 + 1 / 2) / 3
    assert list(found) == ["half", "exact"]
    assert found["half"]["miou"] == found["half"]["strict_interval"]["value"] == pytest.approx(miou)
    assert found["half"]["strict_minus_first"] is None
    assert found["exact"]["miou"] == 1
    difference = found["exact"]["strict_minus_first"]
    assert difference["value"] == pytest.approx(1 - miou)
    # Two images: both are drawn, or one twice. Image a alone has no difference; b alone has
    # background 4/6 and spoon 1/2.
    assert difference["low"] == 0
    assert difference["high"] == pytest.approx(1 - (4 / 6 + 1 / 2) / 2)
    printed = capsys.readouterr().out
    assert "B - A       +23.3        +0.0 to +41.7" in printed
    assert "spoon         50.0   100.0" in printed
    assert "No folder has a card that states anything" in printed
    assert max(map(len, printed.splitlines()[1:])) <= 100  # after the path


def test_only_its_own_results_are_replaced(
    root: Path, tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.svg").write_text("mine")
    text = refusal(root, capsys, *folders, f"--to={tmp_path}")
    assert f"{tmp_path}/scores.svg is there, and was not written here" in text
    assert (tmp_path / "scores.svg").read_text() == "mine"
    assert not (tmp_path / "compare.json").exists()
    assert compare(root, tmp_path / "to", *folders) == compare(root, tmp_path / "to", *folders)


def test_pictures_are_drawn(root: Path, tmp_path: Path, folders: list[str]) -> None:
    compare(root, tmp_path / "to", *folders)
    names = {path.name for path in (tmp_path / "to").iterdir()}
    assert names == {"compare.json", "scores.png", "scores.svg", "classes.png", "classes.svg"}
    with Image.open(tmp_path / "to" / "scores.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    assert "exact" in (tmp_path / "to" / "classes.svg").read_text()


def test_a_folder_does_not_differ_from_itself_and_the_seed_decides(
    root: Path, tmp_path: Path, folders: list[str]
) -> None:
    words = [folders[0], f"again={folders[0]}", folders[1]]
    found = compare(root, tmp_path / "a", *words, "--resamples=7")
    assert found["folders"]["again"]["strict_minus_first"] == {"value": 0, "low": 0, "high": 0}
    assert (found["resamples"], found["seed"]) == (7, 0)
    assert compare(root, tmp_path / "b", *words, "--resamples=7") == found
    other = compare(root, tmp_path / "c", *words, "--resamples=7", "--seed=2")
    assert (
        other["folders"]["exact"]["strict_interval"] == found["folders"]["exact"]["strict_interval"]
    )
    assert (
        other["folders"]["half"]["strict_interval"] != found["folders"]["half"]["strict_interval"]
    )


def test_differences_count_ignored_pixels_as_wrong(
    root: Path, tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ignoring = write_masks(tmp_path / "ignoring", {**TRUTH, "b": [[2, 255, 0, 0], [2, 255, 0, 0]]})
    found = compare(root, tmp_path / "to", folders[1], str(ignoring))["folders"]["ignoring"]
    assert found["miou"] == 1
    assert found["strict_minus_first"]["value"] == pytest.approx((1 + 1 + 1 / 2) / 3 - 1)
    assert "which flatters" in capsys.readouterr().out


def test_masks_before_and_after_the_crf_of_one_folder(root: Path, tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks", HALF)
    write_masks(folder, TRUTH, "_crf")
    found = compare(root, tmp_path / "to", f"before={folder}:", f"after={folder}:_crf")["folders"]
    assert (found["before"]["suffix"], found["after"]["suffix"]) == ("", "_crf")
    assert found["before"]["miou"] < found["after"]["miou"] == 1


def test_only_what_the_cards_say_differently_is_shown(
    root: Path, tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cards = {"half": {"tags": "VOC's", "saliency": "none"}, "exact": {"tags": "VOC's", "sam": "x"}}
    (tmp_path / "half" / "card.json").write_text(json.dumps(cards["half"]))
    exact = root / "SegmentationClass" / "card.json"
    exact.write_text(json.dumps(cards["exact"]))
    found = compare(root, tmp_path / "to", *folders)["folders"]
    assert found["half"]["card"]["tags"] == "VOC's"
    printed = capsys.readouterr().out
    shown = printed[printed.index("cards differ in") :].splitlines()[2:]
    assert [line.split(maxsplit=2) for line in shown] == [
        ["saliency", "A", "none"],
        ["B", "not", "stated"],
        ["sam", "A", "not stated"],
        ["B", "x"],
    ]


def test_what_cannot_be_compared_is_named(
    root: Path, tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Name 2 to 26 folders" in refusal(root, capsys, folders[0])
    text = refusal(root, capsys, folders[0], folders[0])
    assert "Two folders are called half. Name them: A=" in text
    assert "is not a folder of masks" in refusal(root, capsys, folders[0], "x=nowhere")
    (tmp_path / "half" / "b.png").unlink()
    assert "half lacks the masks of 1 image" in refusal(root, capsys, *folders)
    with pytest.raises(SystemExit) as ended:
        main([*folders, f"--data_root={root}", "--resamples=0"])
    assert ended.value.code == 2


def test_many_folders_fit_into_the_width(
    root: Path, tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"a folder with a long name, {k}".replace(",", "") for k in range(13)]
    found = compare(root, tmp_path / "to", *(f"{name}={folders[0]}" for name in names))
    assert list(found["folders"]) == names
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines()[1:])) <= 100
    assert "M - A" in printed
