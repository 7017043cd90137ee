import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from misc.images import read_image, read_mask, voc_palette, write_palette_png
from misc.sam import refine_mask
from tests.helpers.regions import superpixels, write_json, write_map, write_pngs
from tests.helpers.segmentation import SEG_FLAGS, TRAIN_ONLY, notes_of
from tests.helpers.tiny import Run, run, states
from voc12.files import VocDataset
from voc12.lists import read_list, split_ids

STEPS = "--steps=eval_sem_seg,refine_masks,eval_refined"
WRITERS: dict[str, Callable[[Path, str, list[np.ndarray]], Path]] = {
    "pngs": write_pngs,
    "json": write_json,
    "npy": write_map,
}


def train_ids(root: Path) -> list[str]:
    return split_ids(VocDataset.open(root), "train")


def truth_of(root: Path, image_id: str) -> np.ndarray:
    return read_mask(root / "SegmentationClass" / f"{image_id}.png")


def regions_of(root: Path, image_id: str) -> list[np.ndarray]:
    """As SAM would find them at its best: each connected piece of the exact mask."""
    truth = truth_of(root, image_id)
    pieces = []
    for value in np.unique(truth).tolist():
        numbers, count = ndimage.label(truth == value)
        pieces += [numbers == number for number in range(1, count + 1)]
    return pieces


def moved(mask: np.ndarray, by: int) -> np.ndarray:
    """A mask whose objects are out of place; 255 counts as background."""
    shifted = np.zeros_like(mask)
    shifted[by:, by:] = np.where(mask == 255, 0, mask)[:-by, :-by]
    return shifted


@pytest.fixture(scope="module")
def masks(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of somebody else: the exact ones, out of place by 4 and by 2 pixels."""
    folder = tmp_path_factory.mktemp("masks")
    for image_id in train_ids(tiny_dataset):
        truth = truth_of(tiny_dataset, image_id)
        write_palette_png(folder / f"{image_id}.png", moved(truth, 4))
        write_palette_png(folder / f"{image_id}_crf.png", moved(truth, 2))
    return folder


@pytest.fixture
def sam_root(tiny_dataset: Path, tmp_path: Path) -> Path:
    """Regions in all three forms, one after the other."""
    for number, image_id in enumerate(train_ids(tiny_dataset)):
        write = list(WRITERS.values())[number % 3]
        write(tmp_path / "sam", image_id, regions_of(tiny_dataset, image_id))
    return tmp_path / "sam"


def refine(root: Path, out_dir: Path, masks: Path, sam_root: Path, *flags: str) -> Run:
    places = (f"--sem_seg_out_dir={masks}", f"--sam_root={sam_root}")
    return run(root, out_dir, STEPS, *places, *flags)


def scores_of(done: Run) -> dict[str, Any]:
    return json.loads((done.out_dir / "scores.json").read_text())


def refined(done: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (done.out_dir / "refined").glob("*.png")}


def test_masks_are_refined_by_regions_of_every_kind_and_scored_before_and_after(
    tiny_dataset: Path, tmp_path: Path, masks: Path, sam_root: Path
) -> None:
    done = refine(tiny_dataset, tmp_path / "out", masks, sam_root, "--panels=1")
    assert done.status == 0, done.stderr
    for image_id in train_ids(tiny_dataset):
        for suffix in ("", "_crf"):
            path = done.out_dir / "refined" / f"{image_id}{suffix}.png"
            before = read_mask(masks / f"{image_id}{suffix}.png")
            expected = refine_mask(before, regions_of(tiny_dataset, image_id))
            np.testing.assert_array_equal(read_mask(path), expected)
            with Image.open(path) as picture:
                assert picture.getpalette() == voc_palette().ravel().tolist()
    before, after = scores_of(done)["eval_sem_seg"], scores_of(done)["eval_refined"]
    assert before["miou"] < 0.75 < 0.9 < after["miou"]
    assert before["miou"] < before["miou_crf"] < after["miou_crf"]
    assert "mIoU" in next(x for x in done.stdout.splitlines() if x.startswith("eval_refined"))
    assert "refined masks" in done.stdout
    with Image.open(next((done.out_dir / "panels").glob("*.png"))) as sheet:
        # Photograph, saliency, two masks, two refined masks, ground truth: more than one row.
        assert sheet.height > 2 * 240
    unchanged = states(done.out_dir / "refined")
    again = refine(tiny_dataset, done.out_dir, masks, sam_root)
    assert again.status == 0
    assert states(done.out_dir / "refined") == unchanged


def test_names_and_order_of_the_files_decide_nothing(
    tiny_dataset: Path, tmp_path: Path, masks: Path
) -> None:
    rng = np.random.default_rng(0)
    for folder in ("a", "b"):
        for image_id in train_ids(tiny_dataset):
            image = read_image(tiny_dataset / "JPEGImages" / f"{image_id}.jpg")
            found = superpixels(image, spacing=24, blur=1) + regions_of(tiny_dataset, image_id)
            order = rng.permutation(len(found)) if folder == "b" else range(len(found))
            write_pngs(tmp_path / folder, image_id, [found[k] for k in order])
    one = refine(tiny_dataset, tmp_path / "one", masks, tmp_path / "a")
    other = refine(tiny_dataset, tmp_path / "other", masks, tmp_path / "b")
    assert one.status == other.status == 0
    assert refined(one) == refined(other)
    assert len(refined(one)) == 16
    # The same regions, so nothing is stale.
    plan = refine(tiny_dataset, one.out_dir, masks, tmp_path / "b", "--plan")
    (row,) = [x for x in plan.stdout.splitlines() if x.startswith("refine_masks")]
    assert "current" in row


def test_the_shares_and_the_files_decide_what_is_current(
    tiny_dataset: Path, tmp_path: Path, masks: Path, sam_root: Path
) -> None:
    done = refine(tiny_dataset, tmp_path / "out", masks, sam_root)
    before = refined(done)
    shares = ("--refine_region_share=1", "--refine_class_share=1")
    stale = refine(tiny_dataset, done.out_dir, masks, sam_root, *shares)
    assert stale.status == 2
    assert "--refine_region_share was 0.5, is 1" in stale.stderr
    assert refined(done) == before
    image_id = train_ids(tiny_dataset)[1]  # its regions are a JSON
    write_json(sam_root, image_id, [np.ones(truth_of(tiny_dataset, image_id).shape, bool)])
    changed = refine(tiny_dataset, done.out_dir, masks, sam_root)
    assert changed.status == 2
    assert "SAM's regions of 1 image changed" in changed.stderr
    redone = refine(tiny_dataset, done.out_dir, masks, sam_root, "--overwrite")
    assert redone.status == 0, redone.stderr
    differing = {name for name, content in refined(redone).items() if before[name] != content}
    assert differing == {f"{image_id}.png", f"{image_id}_crf.png"}
    redone = refine(tiny_dataset, done.out_dir, masks, sam_root, *shares, "--overwrite")
    assert redone.status == 0
    assert refined(redone) != before


def test_images_without_regions_are_counted_in_the_plan(
    tiny_dataset: Path, tmp_path: Path, masks: Path, sam_root: Path
) -> None:
    first, second = train_ids(tiny_dataset)[1:3]
    (sam_root / f"{first}.json").unlink()
    (sam_root / f"{second}.npy").unlink()
    done = refine(tiny_dataset, tmp_path / "out", masks, sam_root)
    assert done.status == 2
    assert f"lacks the regions of 2 images (first: {first}): {first}/, {first}.json" in done.stderr
    assert "scripts/amg.py" in done.stderr
    assert not (tmp_path / "out" / "refined").exists()


def test_bad_regions_are_named_in_the_plan(
    tiny_dataset: Path, tmp_path: Path, masks: Path, sam_root: Path
) -> None:
    ids = train_ids(tiny_dataset)
    other_size = np.zeros((10, 12), bool)
    height, width = truth_of(tiny_dataset, ids[2]).shape
    write_json(sam_root, ids[1], [other_size])
    write_map(sam_root, ids[2], [other_size])
    shutil.rmtree(sam_root / ids[3])
    np.save(sam_root / f"{ids[3]}.npy", np.array({"a": os.getcwd}, object), allow_pickle=True)
    (sam_root / f"{ids[4]}.npy").touch()  # beside its JSON
    done = refine(tiny_dataset, tmp_path / "out", masks, sam_root)
    assert done.status == 2
    assert f"holds both {ids[4]}.json and {ids[4]}.npy. Remove one of them." in done.stderr
    (sam_root / f"{ids[4]}.npy").unlink()
    done = refine(tiny_dataset, tmp_path / "out", masks, sam_root)
    assert done.status == 2
    assert f"{ids[1]}.json, region 0: its run lengths are for size [10, 12]" in done.stderr
    assert f"{ids[2]}.npy is 12x10, but its image is {width}x{height}" in done.stderr
    assert f"{ids[3]}.npy is not read: it is a pickle" in done.stderr
    assert "3 problems, and nothing was started" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_folder_switches_the_step_on_and_without_it_there_is_none(
    tiny_dataset: Path, tmp_path: Path, finished_run: Run, sam_root: Path
) -> None:
    out_dir = finished_run.out_dir
    plan = run(tiny_dataset, out_dir, "--plan", f"--sam_root={sam_root}")
    assert [x.split()[0] for x in plan.stdout.splitlines()][-2:] == ["refine_masks", "eval_refined"]
    assert "refine_masks" not in run(tiny_dataset, out_dir, "--plan").stdout
    off = ("--refine_masks_pass=no", "--eval_refined_pass=no")
    assert (
        "refine" not in run(tiny_dataset, out_dir, "--plan", f"--sam_root={sam_root}", *off).stdout
    )
    named = run(tiny_dataset, tmp_path / "out", "--steps=refine_masks")
    assert named.status == 2
    assert "pass --sam_root DIR" in named.stderr
    no_folder = run(tiny_dataset, out_dir, f"--sam_root={tmp_path / 'none'}")
    assert no_folder.status == 2
    assert f"--sam_root {tmp_path / 'none'} is not a folder." in no_folder.stderr


@pytest.mark.slow
def test_the_network_learns_from_refined_masks_where_there_are_any(
    tiny_dataset: Path, tmp_path: Path, masks: Path, sam_root: Path
) -> None:
    def learn(out_dir: Path, *flags: str) -> Run:
        return run(tiny_dataset, out_dir, *SEG_FLAGS, *TRAIN_ONLY, *flags)

    places = (f"--sem_seg_out_dir={masks}", f"--sam_root={sam_root}")
    missing = learn(tmp_path / "out", *places, "--seg_label_dir=refined")
    assert missing.status == 2
    assert "Run refine_masks with --infer_list train_aug, or choose another" in missing.stderr
    assert refine(tiny_dataset, tmp_path / "out", masks, sam_root).status == 0
    auto = learn(tmp_path / "out", *places, "--seg_label_dir=auto")
    assert auto.status == 0, auto.stderr
    assert notes_of(auto)["labels"] == f"refined masks, {tmp_path / 'out' / 'refined'}"
    named = learn(
        tmp_path / "out", f"--sem_seg_out_dir={masks}", "--seg_label_dir=refined", "--plan"
    )
    assert "current" in named.stdout
    pseudo = learn(tmp_path / "out", *places, "--seg_label_dir=pseudo", "--plan")
    assert "stale" in pseudo.stdout
    assert "the masks to learn from changed" in pseudo.stdout
    without = learn(tmp_path / "b", f"--sem_seg_out_dir={masks}", "--seg_label_dir=auto")
    assert notes_of(without)["labels"] == f"pseudo masks, {masks}"


def saliency_mask(dataset: VocDataset, image_id: str, class_id: int) -> np.ndarray:
    return np.where(read_mask(dataset.saliency_path(image_id)) > 127, class_id, 0).astype(np.uint8)


def moved_mask(dataset: VocDataset, image_id: str, class_id: int) -> np.ndarray:
    return moved(read_mask(dataset.mask_path(image_id)), 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "before", "after"), [(moved_mask, 0.831, 0.843), (saliency_mask, 0.732, 0.696)]
)
def test_on_photographs_with_a_classical_over_segmentation_that_stands_in_for_sam(
    shared_data: Path, tmp_path: Path, make: Callable[..., np.ndarray], before: float, after: float
) -> None:
    """Regions of a watershed stand in for SAM's, which are not at hand and would be better.

    They mend masks that are 8 pixels out of place, and spoil masks made of saliency maps, which
    follow the objects better than they do: refinement is as good as the regions.
    """
    dataset = VocDataset.open(shared_data / "voc12_animals", shared_data / "voc12_animals" / "Sal")
    ids: list[str] = []
    for image_id in read_list(dataset.list_path("train")):
        truth = read_mask(dataset.mask_path(image_id))
        classes = [c for c in np.unique(truth).tolist() if 0 < c < 255]
        if len(classes) == 1 and len(ids) < 20:
            (tmp_path / "masks").mkdir(exist_ok=True)
            for suffix in ("", "_crf"):
                path = tmp_path / "masks" / f"{image_id}{suffix}.png"
                write_palette_png(path, make(dataset, image_id, classes[0]))
            image = read_image(dataset.image_path(image_id))
            write = write_pngs if len(ids) < 2 else (write_json, write_map)[len(ids) % 2]
            write(tmp_path / "sam", image_id, superpixels(image, spacing=16, blur=1))
            ids.append(image_id)
    (tmp_path / "list.txt").write_text("\n".join(ids))
    lists = (f"--infer_list={tmp_path}/list.txt", f"--chainer_eval_set={tmp_path}/list.txt")
    done = refine(dataset.root, tmp_path / "out", tmp_path / "masks", tmp_path / "sam", *lists)
    assert done.status == 0, done.stderr
    assert scores_of(done)["eval_sem_seg"]["miou"] == pytest.approx(before, abs=1e-3)
    assert scores_of(done)["eval_refined"]["miou"] == pytest.approx(after, abs=1e-3)
