"""Contact sheets show what a folder holds, whatever the settings of the run that draws them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from misc.images import read_mask
from misc.visualize import BOUNDARY_LABEL_LEGEND, heat_legend, make_panel
from tests.helpers.segmentation import SEG_FLAGS, VAL_IDS
from tests.helpers.tiny import Run, copy_run, run
from voc12.classes import VOC_CLASSES

FIRST, LAST = "2007_000001", "2007_000008"
SHEET = ["--steps=eval_sem_seg", "--panels=1"]


@pytest.fixture
def out_dir(finished_run: Run, tmp_path: Path) -> Path:
    """A copy of the finished run, its sheets still to be drawn."""
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    shutil.rmtree(out_dir / "panels")
    return out_dir


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, Any]]]:
    """Titles and legends of the sheets that are drawn."""
    sheets: list[tuple[list[str], dict[str, Any]]] = []

    def note(tiles: Any, legends: Any) -> np.ndarray:
        sheets.append(([title for title, _ in tiles], legends))
        return make_panel(tiles, legends)

    monkeypatch.setattr("step.common.panels.make_panel", note)
    return sheets


def classes_in(*paths: Path) -> list[str]:
    ids = {value for path in paths for value in np.unique(read_mask(path)).tolist()}
    names = {0: "background", 255: "unsure / void"}
    names |= {k + 1: name for k, name in enumerate(VOC_CLASSES)}
    return [names[value] for value in sorted(ids)]


def test_a_sheet_shows_every_result_and_names_exactly_its_colours(
    tiny_dataset: Path, out_dir: Path, drawn: list[tuple[list[str], dict[str, Any]]]
) -> None:
    assert run(tiny_dataset, out_dir, *SHEET).status == 0
    ((titles, legends),) = drawn
    (name,) = classes_in(tiny_dataset / "SegmentationClass" / f"{FIRST}.png")[1:-1]
    assert titles == [
        FIRST, "saliency", f"CAM {name}", "confident regions", "boundary label", "boundary",
        f"walk {name}", "mask", "mask after CRF", "ground truth",
    ]  # fmt: skip
    regions = out_dir / "cam_vis" / f"{FIRST}.png"
    masks = [out_dir / "sem_seg" / f"{FIRST}{ending}.png" for ending in ("", "_crf")]
    masks.append(tiny_dataset / "SegmentationClass" / f"{FIRST}.png")
    shown = {*classes_in(regions), *(n for n in classes_in(*masks) if n != "background")}
    assert {entry for entry, _ in legends["classes"]} == shown
    codes = np.unique(read_mask(out_dir / "boundary_label" / f"{FIRST}.png")).tolist()
    named = [entry for entry in BOUNDARY_LABEL_LEGEND if int(entry[0].split()[0]) in codes]
    assert legends["boundary label"] == named
    assert legends["CAM, walk"] == heat_legend()
    assert [entry for entry, _ in legends["saliency, boundary"]] == ["0", "1"]


def test_a_sheet_of_masks_alone_has_no_other_legend(
    tiny_dataset: Path, out_dir: Path, drawn: list[tuple[list[str], dict[str, Any]]]
) -> None:
    for name in ("cam", "cam_vis", "boundary_label", "weights", "walk"):
        shutil.rmtree(out_dir / name)
    path = out_dir / "sem_seg" / f"{FIRST}.png"
    for each in (path, path.with_name(f"{FIRST}_crf.png")):
        Image.fromarray(np.zeros_like(read_mask(path))).save(tmp := each.with_name("n"), "png")
        tmp.replace(each)
    flags = ["--saliency=none", f"--data_root={tiny_dataset}"]
    assert run(tiny_dataset, out_dir, *SHEET, *flags).status == 0
    ((titles, legends),) = drawn
    assert titles == [FIRST, "mask", "mask after CRF", "ground truth"]
    truth = classes_in(tiny_dataset / "SegmentationClass" / f"{FIRST}.png")
    assert [entry for entry, _ in legends.pop("classes")] == truth[1:]
    assert legends == {}


def test_another_backbone_in_the_command_is_no_reason_to_fail_or_to_draw_again(
    tiny_dataset: Path, finished_run: Run, out_dir: Path
) -> None:
    done = run(tiny_dataset, out_dir, "--steps=eval_sem_seg", "--panels=2", "--backbone=resnet50")
    assert done.status == 0
    assert "ontact sheets are" not in done.stderr
    for image_id in (FIRST, LAST):
        sheet = Path("panels") / f"{image_id}.png"
        assert (out_dir / sheet).read_bytes() == (finished_run.out_dir / sheet).read_bytes()


def test_what_cannot_be_read_is_left_out_and_told_in_a_line(
    tiny_dataset: Path, out_dir: Path, drawn: list[tuple[list[str], dict[str, Any]]]
) -> None:
    shutil.copy(out_dir / "weights" / "cam.pth", out_dir / "other.pth")
    (out_dir / "walk" / f"{FIRST}.npy").unlink()
    (out_dir / "walk" / f"{FIRST}.npy").write_bytes(b"no CAMs")
    flags = [f"--bes_weights_name={out_dir / 'other.pth'}"]
    done = run(tiny_dataset, out_dir, *SHEET, *flags)
    assert done.status == 0
    told = [line for line in done.stderr.splitlines() if line.startswith("Contact sheets are")]
    assert [line.partition(": ")[0] for line in told] == [
        "Contact sheets are without the boundary network's weights",
        "Contact sheets are without the walked scores",
    ]
    assert max(map(len, told)) < 280
    ((titles, _),) = drawn
    assert "boundary" not in titles
    assert not any(title.startswith("walk ") for title in titles)
    assert titles[-3:] == ["mask", "mask after CRF", "ground truth"]


def test_deeplabs_masks_are_shown_on_images_of_their_list(
    tiny_dataset: Path, segmented: Run, tmp_path: Path,
    drawn: list[tuple[list[str], dict[str, Any]]],
) -> None:  # fmt: skip
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    flags = [*SEG_FLAGS, "--seg_seeds=0,1", "--eval_classes=cat,cow"]
    done = run(tiny_dataset, out_dir, "--steps=eval_seg", *flags, "--panels=2")
    assert done.status == 0, done.stderr
    variants = ("seed 0", "best, seed 0", "seed 1", "best, seed 1")
    titles_of_masks = ("DeepLab-v2", "DeepLab-v2 after CRF")
    names = {f"{title} ({variant})" for title in titles_of_masks for variant in variants}
    for (titles, _), image_id in zip(drawn, (VAL_IDS[0], VAL_IDS[-1]), strict=True):
        assert titles[0] == image_id
        assert names < set(titles)
