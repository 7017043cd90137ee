import re
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from misc.crf import DEEPLAB_CRF, DenseCrf
from misc.images import read_image, read_mask, voc_palette
from misc.runtime import Runtime
from misc.transforms import normalize
from misc.weights import load_weights
from net.backbone import build_backbone
from net.deeplab_v2 import DeepLabV2
from tests.helpers.segmentation import SEG_FLAGS, TRAIN_ONLY, VAL_IDS, run_seg, scores_of
from tests.helpers.tiny import (
    Run,
    copy_dataset,
    copy_run,
    needs_pydensecrf,
    run,
    states,
    watch_crfs_here,
)
from voc12.lists import read_list
from voc12.submission import FOLDER

ONE_SEED = "--seg_seeds=0"
STEP = "--steps=make_seg"
ROUNDING = 2e-3  # share of pixels whose two best classes may be told apart by rounding alone


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, list(size), mode="bilinear", align_corners=False)


def scores_by_hand(
    image: np.ndarray, weights: Path, scales: tuple[float, ...], *, flip: bool = False
) -> Tensor:
    """Class scores (C,H,W): the largest logit over the scales, stretched to the image."""
    network = DeepLabV2(build_backbone("squeezenet1_0", fixed_batch_norm=True), 21)
    load_weights(network.eval(), weights)
    x = torch.from_numpy(normalize(image))[None]
    found = []
    for seen in (x, x.flip(-1)) if flip else (x,):
        with torch.no_grad():
            logits = [network(F.interpolate(seen, scale_factor=k, mode="bilinear")) for k in scales]
        largest = max((each.shape[2:] for each in logits), key=lambda size: size[0] * size[1])
        found.append(torch.stack([resized(each, largest) for each in logits]).amax(0))
    mean = (found[0] + found[1].flip(-1)) / 2 if flip else found[0]
    return resized(mean, image.shape[:2])[0]


def assert_alike(mask: np.ndarray, scores: Tensor) -> None:
    assert (mask != scores.argmax(0).numpy()).mean() < ROUNDING


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_masks_are_those_of_the_largest_logits_and_of_the_crf_on_the_photograph(
    tiny_dataset: Path, segmented: Run, checkpoint: str
) -> None:
    ending = "" if checkpoint == "last" else "_best"
    weights = segmented.out_dir / "weights" / f"seg_seed1{ending}.pth"
    folder = segmented.out_dir / "seg" / "val" / f"{checkpoint}_seed1"
    names = {f"{i}{suffix}.png" for i in VAL_IDS for suffix in ("", "_crf")}
    assert {path.name for path in folder.iterdir()} == names | {"settings.json"}
    for image_id in VAL_IDS:
        photograph = read_image(tiny_dataset / "JPEGImages" / f"{image_id}.jpg")
        scores = scores_by_hand(photograph, weights, (1.0, 0.5))
        assert_alike(read_mask(folder / f"{image_id}.png"), scores)
        sharpened = DenseCrf(photograph, DEEPLAB_CRF).from_probabilities(scores.softmax(0))
        assert_alike(read_mask(folder / f"{image_id}_crf.png"), sharpened)
        with Image.open(folder / f"{image_id}_crf.png") as picture:
            assert picture.getpalette() == voc_palette().ravel().tolist()


def test_scales_flip_crf_and_split_are_flags(
    tiny_dataset: Path, segmented: Run, tmp_path: Path
) -> None:
    out_dir = tmp_path / "out"
    # As drawn, the network names several classes; four updates lead it to one everywhere.
    as_drawn = run_seg(tiny_dataset, out_dir, ONE_SEED, *TRAIN_ONLY, "--seg_learning_rate=0")
    assert as_drawn.status == 0, as_drawn.stderr
    flags = [ONE_SEED, "--seg_test_flip", "--seg_test_scales=0.5,1.5", "--seg_crf=no"]
    flags += ["--make_seg_split=train_aug", "--seg_learning_rate=0", "--seg_val_every=0"]
    done = run_seg(tiny_dataset, out_dir, *flags, "--steps=make_seg,eval_seg")
    assert done.status == 0, done.stderr
    ids = read_list(tiny_dataset / "ImageSets" / "Segmentation" / "train.txt")
    folder = out_dir / "seg" / "train_aug" / "last_seed0"
    assert {p.name for p in folder.iterdir()} == {f"{i}.png" for i in ids} | {"settings.json"}
    assert scores_of(done)["split"] == "train_aug"
    assert scores_of(done)["images"] == len(ids)
    assert "miou_crf" not in scores_of(done)["last"]

    photograph = read_image(tiny_dataset / "JPEGImages" / f"{ids[0]}.jpg")
    weights = out_dir / "weights" / "seg_seed0.pth"
    scores = scores_by_hand(photograph, weights, (0.5, 1.5), flip=True)
    assert len(np.unique(read_mask(folder / f"{ids[0]}.png"))) > 1
    assert_alike(read_mask(folder / f"{ids[0]}.png"), scores)


@pytest.mark.slow
@pytest.mark.parametrize("free_cores", [0, 1])
def test_crfs_are_done_beside_the_network_where_it_leaves_a_core(
    tiny_dataset: Path,
    segmented: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_cores: int,
) -> None:
    crf = watch_crfs_here(monkeypatch, free_cores)
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    shutil.rmtree(out_dir / "seg")
    done = run_seg(tiny_dataset, out_dir, STEP, ONE_SEED, "--num_workers=1")
    assert done.status == 0, done.stderr
    made = sorted((out_dir / "seg").rglob("*_crf.png"))
    assert len(made) == 2 * len(VAL_IDS)  # of the last and the best checkpoint
    assert crf.call_count == (0 if free_cores else len(made))
    for path in made:
        before = segmented.out_dir / path.relative_to(out_dir)
        assert path.read_bytes() == before.read_bytes(), path


@pytest.mark.parametrize(
    ("flag", "has_threads"),
    [
        ("--crf=torch", True),
        ("--seg_crf=no", True),
        pytest.param("--crf=pydensecrf", False, marks=needs_pydensecrf),
    ],
)
def test_work_beside_the_network_has_threads_unless_pydensecrf_does_it(
    tiny_dataset: Path,
    segmented: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flag: str,
    has_threads: bool,
) -> None:
    asked: list[bool] = []

    def workers_beside_network(_: Runtime, *, has_threads: bool) -> int:
        asked.append(has_threads)
        return 0

    monkeypatch.setattr(Runtime, "workers_beside_network", workers_beside_network)
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    masks = f"--seg_out_dir={tmp_path / 'masks'}"
    done = run_seg(tiny_dataset, out_dir, STEP, ONE_SEED, masks, flag)
    assert done.status == 0, done.stderr
    assert asked == [has_threads, has_threads]  # of the last and the best checkpoint


def test_masks_of_other_weights_or_settings_are_refused_by_name(
    tiny_dataset: Path, segmented: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    before = states(out_dir)
    for flag, named in (
        ("--seg_test_scales=1", "--seg_test_scales was 1,0.5, is 1"),
        ("--seg_test_flip", "--seg_test_flip was no, is yes"),
    ):
        refused = run_seg(tiny_dataset, out_dir, STEP, ONE_SEED, flag)
        assert refused.status == 2
        assert named in refused.stderr
    assert states(out_dir) == before
    weights = out_dir / "weights"
    (weights / "seg_seed1.pth").replace(weights / "seg_seed0.pth")
    refused = run_seg(tiny_dataset, out_dir, STEP, ONE_SEED)
    assert refused.status == 2
    assert "the segmentation network's weights changed" in refused.stderr


def test_without_weights_it_says_where_to_get_them(tiny_dataset: Path, tmp_path: Path) -> None:
    refused = run_seg(tiny_dataset, tmp_path, STEP)
    assert refused.status == 2
    assert f"No weights {tmp_path}/weights/seg.pth. Run train_seg" in refused.stderr


def test_weights_and_masks_of_somebody_else_are_used(
    tiny_dataset: Path, segmented: Run, tmp_path: Path
) -> None:
    weights = tmp_path / "theirs.pth"
    weights.write_bytes((segmented.out_dir / "weights" / "seg_seed0.pth").read_bytes())
    flags = (f"--seg_weights_name={weights}", "--seg_crf=no")
    done = run_seg(tiny_dataset, tmp_path / "a", *flags)
    assert done.status == 0, done.stderr
    assert re.search("^train_seg +taken as they are", done.stderr, re.MULTILINE)
    assert scores_of(done)["initialisation"] == "unknown"
    made = tmp_path / "a" / "seg" / "val" / "last"
    plugged = tmp_path / "b" / "seg" / "val" / "last"
    plugged.mkdir(parents=True)
    for image_id in VAL_IDS:
        (plugged / f"{image_id}.png").write_bytes((made / f"{image_id}.png").read_bytes())
    scored = run_seg(tiny_dataset, tmp_path / "b", "--steps=make_seg,eval_seg", "--seg_crf=no")
    assert scored.status == 0, scored.stderr
    assert scores_of(scored)["last"] == scores_of(done)["last"]


def members(path: Path) -> dict[str, bytes]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


def test_the_test_split_needs_no_masks_and_gives_the_servers_archive(
    tiny_dataset: Path, segmented: Run, tmp_path: Path
) -> None:
    root = copy_dataset(tiny_dataset, tmp_path / "voc")
    ids = VAL_IDS[:2]
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(ids))
    for image_id in ids:
        (root / "SegmentationClass" / f"{image_id}.png").unlink()
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    flags = ["--make_seg_split=test", STEP, "--seg_seeds=0,1", *SEG_FLAGS]
    wrong = run(root, out_dir, *flags, f"--voc_submission={tmp_path}/x.rar")
    assert wrong.status == 2
    assert "the name must end in .tar.gz, .tgz, .zip" in wrong.stderr
    assert not (out_dir / "seg" / "test").exists()

    mine = tmp_path / "x_best_seed1.tar.gz"
    mine.write_bytes(b"mine")
    refused = run(root, out_dir, *flags, f"--voc_submission={tmp_path}/x.tar.gz")
    assert refused.status == 2
    assert f"--voc_submission: {mine} is there, and is no submission" in refused.stderr
    assert [path.read_bytes() for path in tmp_path.glob("x*")] == [b"mine"]
    mine.unlink()
    done = run(root, out_dir, *flags, f"--voc_submission={tmp_path}/x.tar.gz")
    assert done.status == 0, done.stderr
    endings = ("_seed0", "_seed1", "_best_seed0", "_best_seed1")
    archives = [tmp_path / f"x{ending}.tar.gz" for ending in endings]
    assert sorted(tmp_path.glob("x*")) == sorted(archives)
    for archive, folder in zip(
        archives, ("last_seed0", "last_seed1", "best_seed0", "best_seed1"), strict=True
    ):
        masks = out_dir / "seg" / "test" / folder
        assert members(archive) == {
            f"{FOLDER}/{i}.png": (masks / f"{i}_crf.png").read_bytes() for i in ids
        }
    later = run(root, out_dir, *flags, ONE_SEED, f"--voc_submission={tmp_path}/y.zip")
    assert later.status == 0
    assert len(members(tmp_path / "y_seed0.zip")) == 2

    refused = run(root, out_dir, *flags, "--steps=make_seg,eval_seg")
    assert refused.status == 2
    assert f"{ids[0]}.png is missing" in refused.stderr
    assert "--eval_seg_pass no" in refused.stderr


def test_an_archive_of_bad_masks_is_not_written(
    tiny_dataset: Path, segmented: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    bad = out_dir / "seg" / "val" / "last_seed0" / f"{VAL_IDS[1]}_crf.png"
    bad.unlink()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(bad)
    archive = f"--voc_submission={tmp_path}/x.zip"
    refused = run_seg(tiny_dataset, out_dir, STEP, ONE_SEED, archive)
    assert refused.status == 2
    assert f"{bad} is a PNG of mode L, not a palette PNG" in refused.stderr
    assert "has masks of val, not of test" in refused.stderr
    assert not list(tmp_path.glob("x*"))


def test_without_a_list_val_another_is_asked_for_by_its_flag(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    root = copy_dataset(tiny_dataset, tmp_path / "voc")
    (root / "ImageSets" / "Segmentation" / "val.txt").unlink()
    stopped = run_seg(root, tmp_path / "out")
    assert stopped.status == 2
    assert "choose another list: --make_seg_split train." in stopped.stderr
    assert "1 problem, and nothing was started" in stopped.stderr
    planned = run_seg(root, tmp_path / "out", "--make_seg_split=train", "--plan")
    assert "problem" not in planned.stdout
