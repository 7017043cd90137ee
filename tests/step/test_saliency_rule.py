import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.cam_files import CamFolder, read_cams
from misc.images import read_mask, voc_palette
from misc.saliency import read_saliency
from misc.wsss_bed import make_wsss_bed_mask
from tests.helpers.sets import all_ids, write_cam_set, write_saliency_set
from tests.helpers.tiny import Run, copy_run, run, scores_of, states
from voc12.lists import read_list

STEP = "--steps=make_sem_seg"
WSSS_BED = ("--sem_seg_scores=cam", "--sem_seg_rule=saliency", "--sem_seg_act_thres=0.1")


@pytest.fixture(scope="module")
def cams(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cam_set(tiny_dataset, tmp_path_factory.mktemp("sets") / "cams", blur=2, noise=0.3)


@pytest.fixture(scope="module")
def sals(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_saliency_set(tiny_dataset, tmp_path_factory.mktemp("sets") / "sals", blur=2)


def train_ids(root: Path) -> list[str]:
    return read_list(root / "ImageSets" / "Segmentation" / "train.txt")


def check_masks(root: Path, done: Run, cams: Path, sals: Path, **rule: float) -> None:
    listing = CamFolder(cams, num_classes=20)
    for image_id in train_ids(root):
        path = done.out_dir / "sem_seg" / f"{image_id}.png"
        truth = read_mask(root / "SegmentationClass" / f"{image_id}.png")
        cam = listing.read(image_id, truth.shape)
        saliency = read_saliency(sals / f"{image_id}.png")
        expected = make_wsss_bed_mask(cam.high_res, cam.class_ids, saliency, **rule)  # type: ignore[arg-type]
        np.testing.assert_array_equal(read_mask(path), expected)
        with Image.open(path) as picture:
            assert picture.getpalette() == voc_palette().ravel().tolist()


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (("--sem_seg_act_thres=0.9",), {"act_thres": 0.9, "sal_thres": 0.2, "ignore": True}),
        (
            ("--sem_seg_act_thres=0.4", "--sem_seg_sal_thres=0", "--sem_seg_ignore=no"),
            {"act_thres": 0.4, "sal_thres": 0, "ignore": False},
        ),
    ],
)
def test_wsss_beds_masks_of_plugged_in_cams_and_saliency(
    tiny_dataset: Path, tmp_path: Path, cams: Path, sals: Path, flags: tuple[str, ...], rule: dict
) -> None:
    sets = (f"--cam_out_dir={cams}", f"--sal_root={sals}", *WSSS_BED)
    done = run(tiny_dataset, tmp_path / "out", STEP, *sets, *flags)
    assert done.status == 0, done.stderr
    check_masks(tiny_dataset, done, cams, sals, **rule)
    masks = done.out_dir / "sem_seg"
    values = {v for i in train_ids(tiny_dataset) for v in np.unique(read_mask(masks / f"{i}.png"))}
    assert (255 in values) == rule["ignore"]
    assert len(values - {0, 255}) > 1
    smoothed = {v for p in masks.glob("*_crf.png") for v in np.unique(read_mask(p))}
    assert 255 not in smoothed  # the CRF decides on what is ignored before
    assert smoothed - {0} == values - {0, 255}
    done = run(tiny_dataset, done.out_dir, "--steps=eval_sem_seg", *sets, *flags)
    scores = scores_of(done.out_dir)["eval_sem_seg"]
    assert ("ignored" in scores) == rule["ignore"]
    if rule["ignore"]:
        truths, masked = (
            np.concatenate([read_mask(f / f"{i}.png").ravel() for i in train_ids(tiny_dataset)])
            for f in (tiny_dataset / "SegmentationClass", masks)
        )
        share = float((masked[truths != 255] == 255).mean())
        assert scores["ignored"] == pytest.approx(share)
        assert scores["miou_strict"] < scores["miou"]
        assert f"{100 * share:.1f} % of the pixels ignored, as missed: " in done.stdout
    before = states(masks)
    again = run(tiny_dataset, done.out_dir, STEP, *sets, *flags)
    assert again.status == 0
    assert states(masks) == before


def test_the_salient_walk_is_the_rule_on_walked_scores(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    masks = tmp_path / "masks"
    flags = ["--sem_seg_rule=saliency", f"--sem_seg_out_dir={masks}", "--panels=1"]
    steps = "--steps=make_sem_seg,eval_sem_seg"
    done = run(tiny_dataset, out_dir, steps, *flags)
    assert done.status == 0, done.stderr
    for image_id in train_ids(tiny_dataset):
        mask = read_mask(masks / f"{image_id}.png")
        walks = read_cams(out_dir / "walk" / f"{image_id}.npy", mask.shape, num_classes=20)
        saliency = read_saliency(tiny_dataset / "Sal" / f"{image_id}.png")
        expected = make_wsss_bed_mask(walks.high_res, walks.class_ids, saliency, act_thres=0)
        np.testing.assert_array_equal(mask, expected)
        assert ((mask == 0) == (saliency <= np.float32(0.2))).mean() > 0.99
    assert {"miou", "miou_crf", "iou_crf"} <= scores_of(out_dir)["eval_sem_seg"].keys()
    assert list((out_dir / "panels").glob("*.png"))


def test_the_other_rules_thresholds_change_nothing(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    before = states(out_dir / "sem_seg")
    assert run(tiny_dataset, out_dir, STEP, "--sem_seg_act_thres=0.4").status == 0
    assert states(out_dir / "sem_seg") == before
    rule = run(tiny_dataset, out_dir, STEP, "--sem_seg_rule=saliency")
    assert rule.status == 2
    assert "--sem_seg_rule was threshold, is saliency" in rule.stderr


def test_without_saliency_the_rule_is_refused(
    tiny_dataset: Path, tmp_path: Path, cams: Path
) -> None:
    flags = (f"--cam_out_dir={cams}", "--saliency=none", *WSSS_BED)
    done = run(tiny_dataset, tmp_path / "out", STEP, *flags)
    assert done.status == 2
    assert "--sem_seg_rule saliency needs saliency maps" in done.stderr
    assert not (tmp_path / "out").exists()


def test_other_thresholds_are_refused_and_missing_inputs_named(
    tiny_dataset: Path, tmp_path: Path, cams: Path, sals: Path
) -> None:
    sets = (f"--cam_out_dir={cams}", f"--sal_root={sals}", *WSSS_BED)
    assert run(tiny_dataset, tmp_path / "out", STEP, *sets).status == 0
    other = run(tiny_dataset, tmp_path / "out", STEP, *sets, "--sem_seg_act_thres=0.5")
    assert other.status == 2
    assert "--sem_seg_act_thres was 0.1, is 0.5" in other.stderr
    assert "--overwrite" in other.stderr
    redone = run(
        tiny_dataset, tmp_path / "out", STEP, *sets, "--sem_seg_act_thres=0.5", "--overwrite"
    )
    assert redone.status == 0
    check_masks(tiny_dataset, redone, cams, sals, act_thres=0.5)
    missing = run(tiny_dataset, tmp_path / "new", STEP, *sets, f"--sal_root={tmp_path}")
    assert missing.status == 2
    assert f"{tmp_path}/{train_ids(tiny_dataset)[0]}.png" in missing.stderr


@pytest.fixture
def own_sals(sals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sals, tmp_path / "own_sals"))


def without_record(found: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {name: state for name, state in found.items() if name != "settings.json"}


TWO_LISTS = {
    STEP: ("sem_seg", "--infer_list"),
    "--steps=make_boundary_label": ("boundary_label", "--train_aug_list"),
}


@pytest.mark.parametrize("step", TWO_LISTS)
def test_a_second_list_goes_beside_the_first_and_a_changed_map_is_noticed(
    tiny_dataset: Path, tmp_path: Path, cams: Path, own_sals: Path, step: str
) -> None:
    name, flag = TWO_LISTS[step]
    folder = tmp_path / "out" / name
    sets = (f"--cam_out_dir={cams}", f"--sal_root={own_sals}", *WSSS_BED)
    assert run(tiny_dataset, tmp_path / "out", step, *sets, f"{flag}=train").status == 0
    before = states(folder)
    second = run(tiny_dataset, tmp_path / "out", step, *sets, f"{flag}=val")
    assert second.status == 0, second.stderr
    ids = {path.stem.removesuffix("_crf") for path in folder.glob("*.png")}
    assert ids == set(all_ids(tiny_dataset))
    assert states(folder).items() >= without_record(before).items()
    changed = own_sals / f"{train_ids(tiny_dataset)[0]}.png"
    Image.fromarray(np.zeros_like(read_mask(changed))).save(changed)
    refused = run(tiny_dataset, tmp_path / "out", step, *sets, f"{flag}=train")
    assert refused.status == 2
    assert "the saliency maps of 1 image changed" in refused.stderr
    assert run(tiny_dataset, tmp_path / "out", step, *sets, f"{flag}=val").status == 0
    before = states(folder)
    redone = run(tiny_dataset, tmp_path / "out", step, *sets, f"{flag}=train", "--overwrite")
    assert redone.status == 0, redone.stderr
    remade = {name for name, state in states(folder).items() if before[name] != state}
    endings = (".png", "_crf.png") if name == "sem_seg" else (".png",)
    files = {f"{train_ids(tiny_dataset)[0]}{ending}" for ending in endings}
    assert remade == {*files, "settings.json"}


@pytest.mark.parametrize("step", TWO_LISTS)
def test_the_same_list_goes_on_in_a_folder_that_got_more_maps(
    tiny_dataset: Path, tmp_path: Path, cams: Path, own_sals: Path, step: str
) -> None:
    name, flag = TWO_LISTS[step]
    folder = tmp_path / "out" / name
    flags = (f"--cam_out_dir={cams}", f"--sal_root={own_sals}", f"{flag}=train", step, *WSSS_BED)
    assert run(tiny_dataset, tmp_path / "out", *flags).status == 0
    before = states(folder)
    some_map = own_sals / f"{train_ids(tiny_dataset)[0]}.png"
    shutil.copy(some_map, own_sals / "another.png")
    assert run(tiny_dataset, tmp_path / "out", *flags).status == 0
    assert states(folder) == before
