from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.cam_files import CamFolder
from misc.saliency import read_saliency
from misc.visualize import voc_palette
from misc.wsss_bed import make_wsss_bed_mask
from tests.sets import write_cam_set, write_saliency_set
from tests.tiny import Run, run, states
from voc12.files import read_mask
from voc12.lists import read_list

STEP = "--steps=make_wsss_bed_masks"


@pytest.fixture(scope="module")
def cams(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cam_set(tiny_dataset, tmp_path_factory.mktemp("sets") / "cams", blur=2, noise=0.3)


@pytest.fixture(scope="module")
def sals(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_saliency_set(tiny_dataset, tmp_path_factory.mktemp("sets") / "sals", blur=2)


def train_ids(root: Path) -> list[str]:
    return read_list(root / "ImageSets" / "Segmentation" / "train.txt")


def check_masks(root: Path, done: Run, cams: Path, sals: Path | None, **rule: float) -> None:
    listing = CamFolder(cams, num_classes=20)
    for image_id in train_ids(root):
        path = done.out_dir / "wsss_bed" / f"{image_id}.png"
        truth = read_mask(root / "SegmentationClass" / f"{image_id}.png")
        cam = listing.read(image_id, truth.shape)
        saliency = None if sals is None else read_saliency(sals / f"{image_id}.png")
        expected = make_wsss_bed_mask(cam.high_res, cam.class_ids, saliency, **rule)  # type: ignore[arg-type]
        np.testing.assert_array_equal(read_mask(path), expected)
        with Image.open(path) as picture:
            assert picture.getpalette() == voc_palette().ravel().tolist()


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        ((), {"act_thres": 0.1, "sal_thres": 0.2, "ignore": True}),
        (
            ("--wsss_bed_act_thres=0.4", "--wsss_bed_sal_thres=0", "--wsss_bed_ignore=no"),
            {"act_thres": 0.4, "sal_thres": 0, "ignore": False},
        ),
    ],
)
def test_masks_of_plugged_in_cams_and_saliency(
    tiny_dataset: Path, tmp_path: Path, cams: Path, sals: Path, flags: tuple[str, ...], rule: dict
) -> None:
    sets = (f"--cam_out_dir={cams}", f"--sal_root={sals}")
    done = run(tiny_dataset, tmp_path / "out", STEP, *sets, *flags)
    assert done.status == 0, done.stderr
    check_masks(tiny_dataset, done, cams, sals, **rule)
    values = {v for p in (done.out_dir / "wsss_bed").glob("*.png") for v in np.unique(read_mask(p))}
    assert (255 in values) == rule["ignore"]
    assert len(values - {0, 255}) > 1
    before = states(done.out_dir / "wsss_bed")
    again = run(tiny_dataset, done.out_dir, STEP, *sets, *flags)
    assert again.status == 0
    assert states(done.out_dir / "wsss_bed") == before


def test_without_saliency(tiny_dataset: Path, tmp_path: Path, cams: Path) -> None:
    flags = (f"--cam_out_dir={cams}", "--saliency=none", "--wsss_bed_act_thres=0.3")
    done = run(tiny_dataset, tmp_path / "out", STEP, *flags)
    assert done.status == 0, done.stderr
    check_masks(tiny_dataset, done, cams, None, act_thres=0.3)


def test_other_thresholds_are_refused_and_missing_inputs_named(
    tiny_dataset: Path, tmp_path: Path, cams: Path, sals: Path
) -> None:
    sets = (f"--cam_out_dir={cams}", f"--sal_root={sals}")
    assert run(tiny_dataset, tmp_path / "out", STEP, *sets).status == 0
    other = run(tiny_dataset, tmp_path / "out", STEP, *sets, "--wsss_bed_act_thres=0.5")
    assert other.status == 2
    assert "--wsss_bed_act_thres was 0.1, is 0.5" in other.stderr
    assert "--overwrite" in other.stderr
    redone = run(
        tiny_dataset, tmp_path / "out", STEP, *sets, "--wsss_bed_act_thres=0.5", "--overwrite"
    )
    assert redone.status == 0
    check_masks(tiny_dataset, redone, cams, sals, act_thres=0.5)
    missing = run(tiny_dataset, tmp_path / "new", STEP, sets[0], f"--sal_root={tmp_path}")
    assert missing.status == 2
    assert f"{tmp_path}/{train_ids(tiny_dataset)[0]}.png" in missing.stderr
