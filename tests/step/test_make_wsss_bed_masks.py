import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.cam_files import CamFolder
from misc.images import read_mask, voc_palette
from misc.saliency import read_saliency
from misc.wsss_bed import make_wsss_bed_mask
from tests.helpers.sets import all_ids, write_cam_set, write_saliency_set
from tests.helpers.tiny import Run, run, states
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


@pytest.fixture
def own_sals(sals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sals, tmp_path / "own_sals"))


def without_record(found: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {name: state for name, state in found.items() if name != "settings.json"}


TWO_LISTS = {
    STEP: ("wsss_bed", "--infer_list"),
    "--steps=make_boundary_label": ("boundary_label", "--train_aug_list"),
}


@pytest.mark.parametrize("step", TWO_LISTS)
def test_a_second_list_goes_beside_the_first_and_a_changed_map_is_noticed(
    tiny_dataset: Path, tmp_path: Path, cams: Path, own_sals: Path, step: str
) -> None:
    name, flag = TWO_LISTS[step]
    folder = tmp_path / "out" / name
    sets = (f"--cam_out_dir={cams}", f"--sal_root={own_sals}")
    assert run(tiny_dataset, tmp_path / "out", step, *sets, f"{flag}=train").status == 0
    before = states(folder)
    second = run(tiny_dataset, tmp_path / "out", step, *sets, f"{flag}=val")
    assert second.status == 0, second.stderr
    assert {path.stem for path in folder.glob("*.png")} == set(all_ids(tiny_dataset))
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
    assert remade == {f"{train_ids(tiny_dataset)[0]}.png", "settings.json"}


@pytest.mark.parametrize("step", TWO_LISTS)
def test_the_same_list_goes_on_in_a_folder_that_got_more_maps(
    tiny_dataset: Path, tmp_path: Path, cams: Path, own_sals: Path, step: str
) -> None:
    name, flag = TWO_LISTS[step]
    folder = tmp_path / "out" / name
    flags = (f"--cam_out_dir={cams}", f"--sal_root={own_sals}", f"{flag}=train", step)
    assert run(tiny_dataset, tmp_path / "out", *flags).status == 0
    before = states(folder)
    some_map = own_sals / f"{train_ids(tiny_dataset)[0]}.png"
    shutil.copy(some_map, own_sals / "another.png")
    assert run(tiny_dataset, tmp_path / "out", *flags).status == 0
    assert states(folder) == before
