"""The steps on the recorded CAMs and boundaries end with the reference's masks and scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from misc.cam_files import Cams, write_irn
from tests.helpers.paths import GOLDEN
from tests.helpers.tiny import Run, run

RECORD = GOLDEN / "g8b_sem_seg_given_edges"
IDS = [f"2007_{number:06d}" for number in range(1, 11)]
WALK_TOLERANCE = 7e-5
CRF_TOLERANCE = 1e-3
LABEL_TOLERANCE = 1e-2  # one label of a CRF counts in the windows of 169 pixels

Arrays = dict[str, np.ndarray]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture(scope="module")
def recorded() -> Arrays:
    with np.load(RECORD / "sem_seg.npz") as arrays:
        return dict(arrays)


def write_dataset(root: Path, cam_dir: Path) -> None:
    """The recorded photographs and masks in VOC layout, and the recorded CAMs as IRN's files."""
    for folder in ("JPEGImages", "SegmentationClass", "Sal", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    cam_dir.mkdir()
    for split in ("train", "train_aug"):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(IDS))
    with np.load(GOLDEN / "decoded_voc.npz") as arrays:
        for image_id in IDS:
            # As PNG: another JPEG decoder would give other pixels.
            Image.fromarray(arrays[f"{image_id}/img"]).save(root / f"JPEGImages/{image_id}.png")
            Image.fromarray(arrays[f"{image_id}/sal"]).save(root / f"Sal/{image_id}.png")
            Image.fromarray(arrays[f"{image_id}/gt"]).save(
                root / f"SegmentationClass/{image_id}.png"
            )
    for image_id in IDS:
        with (
            np.load(GOLDEN / "plugged_cams" / f"{image_id}.npz") as arrays,
            open(cam_dir / f"{image_id}.npy", "wb") as file,
        ):
            write_irn(file, Cams(arrays["keys"] + 1, arrays["cam"], arrays["high_res"]))


@pytest.fixture(scope="module")
def finished(recorded: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All steps without training, with the boundaries that the record was made from."""
    folder = tmp_path_factory.mktemp("recorded")
    write_dataset(folder / "voc", folder / "cam")
    weights = folder / "bes.pth"
    weights.write_bytes(b"stands for the network that predicted the boundaries")

    def with_recorded_boundaries(_run: object, _backbone: str, images: Any) -> Any:
        for sample in DataLoader(images, batch_size=None):
            yield sample, torch.from_numpy(recorded[f"{sample['image_id']}/edge"][0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("step.artefacts.BoundaryWeights.load", lambda *_: None)
        patch.setattr("step.common.predict.with_boundaries", with_recorded_boundaries)
        return run(
            folder / "voc", folder / "out", f"--cam_out_dir={folder / 'cam'}",
            f"--bes_weights_name={weights}",
            "--steps=eval_cam,make_boundary_label,make_walk,eval_walk,make_sem_seg,eval_sem_seg",
        )  # fmt: skip


@pytest.fixture(scope="module")
def scores(finished: Run) -> dict[str, Any]:
    assert finished.status == 0, finished.stderr
    return json.loads((finished.out_dir / "scores.json").read_text())


@pytest.mark.parametrize("image_id", IDS)
def test_confident_regions_and_boundary_labels_are_the_recorded_ones(
    finished: Run, image_id: str
) -> None:
    for folder, tolerance in (("cam_vis", CRF_TOLERANCE), ("boundary_label", LABEL_TOLERANCE)):
        ours = read(finished.out_dir / folder / f"{image_id}.png")
        theirs = read(GOLDEN / "g1_boundary_label" / "default" / folder / f"{image_id}.png")
        assert (ours != theirs).mean() <= tolerance


@pytest.mark.parametrize("image_id", IDS)
def test_masks_are_the_recorded_ones(finished: Run, recorded: Arrays, image_id: str) -> None:
    ours = read(finished.out_dir / "sem_seg" / f"{image_id}.png")
    differs = ours != read(RECORD / "sem_seg" / f"{image_id}.png")
    assert not (differs & ~is_close_call(recorded[f"{image_id}/rw"][:, 0], ours.shape)).any()


def is_close_call(walked: np.ndarray, image_size: tuple[int, ...]) -> np.ndarray:
    """Where the two best of [background, classes] are as near as float32 walks are to float64."""
    stretched = torch.nn.functional.interpolate(
        torch.from_numpy(walked)[None], scale_factor=4, mode="bilinear", align_corners=False
    )[0, :, : image_size[0], : image_size[1]].numpy()
    candidates = np.concatenate([np.full((1, *image_size), 0.21), stretched / stretched.max()])
    best = np.sort(candidates, axis=0)
    return best[-1] - best[-2] < 2 * WALK_TOLERANCE


@pytest.mark.parametrize("image_id", IDS)
def test_masks_after_the_crf_are_the_recorded_ones(finished: Run, image_id: str) -> None:
    ours = read(finished.out_dir / "sem_seg" / f"{image_id}_crf.png")
    theirs = read(RECORD / "sem_seg" / f"{image_id}_crf.png")
    assert (ours != theirs).mean() <= CRF_TOLERANCE


@pytest.mark.parametrize(("name", "key"), [("rw", "miou"), ("crf", "miou_crf")])
def test_scores_are_what_the_reference_printed(scores: dict[str, Any], name: str, key: str) -> None:
    printed = (RECORD / "eval_stdout.txt").read_text().split(f"'{key}': ")[1].split("}")[0]
    assert scores["eval_sem_seg"][key] == pytest.approx(float(printed), abs=2e-4)
    with np.load(RECORD / "eval_confusion.npz") as arrays:
        matrix = arrays[name].astype(float)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    ending = key.removeprefix("miou")
    ours = list(scores["eval_sem_seg"][f"iou{ending}"].values())[: len(matrix)]
    for found, intersection, of in zip(ours, np.diag(matrix), union, strict=True):
        if of == 0:
            assert found is None
        else:
            assert found == pytest.approx(intersection / of, abs=2e-3)


def test_scores_of_the_cams_are_the_recorded_ones(scores: dict[str, Any]) -> None:
    expected = json.loads((GOLDEN / "g7_eval.json").read_text())["eval_cam_miou"]
    assert scores["eval_cam"]["miou"] == pytest.approx(expected, abs=1e-12)


def test_the_palette_is_vocs(finished: Run) -> None:
    with (
        Image.open(finished.out_dir / "sem_seg" / f"{IDS[0]}.png") as ours,
        Image.open(RECORD / "sem_seg" / f"{IDS[0]}.png") as theirs,
    ):
        used = theirs.getpalette()
        assert used
        assert (ours.getpalette() or [])[: len(used)] == used
