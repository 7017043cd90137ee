"""Inputs that are unusual but right go through every step, whatever the original made of them."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from misc.cam_files import read_cams
from tests.helpers.tiny import Run, contents, copy_dataset, run

IDS = [f"2007_{number:06d}" for number in range(1, 9)]
GRAY_JPEG, CMYK_JPEG, WITHOUT_CLASS, BLACK_SALIENCY = IDS[:4]
STRANGE_IDS = ["my image-1.v2", "größe 画像", "a_crf_b", "000000000139"]
NEW_NAMES = dict(zip(IDS[4:], STRANGE_IDS, strict=True))


def to_palette(gray: Image.Image) -> Image.Image:
    palette = gray.convert("P")
    palette.putpalette([level for level in range(256) for _ in range(3)])
    return palette


def to_rgba(gray: Image.Image) -> Image.Image:
    rgba = gray.convert("RGBA")
    rgba.putalpha(7)
    return rgba


def to_16_bit(gray: Image.Image) -> Image.Image:
    return Image.fromarray(np.array(gray).astype(np.uint16) * 257)


SALIENCY_MODES: list[Callable[[Image.Image], Image.Image]] = [
    lambda gray: gray.convert("RGB"),
    to_rgba,
    lambda gray: gray.convert("LA"),
    to_palette,
    to_16_bit,
    lambda gray: gray.convert("1"),
]


def rewrite(path: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    with Image.open(path) as picture:
        changed = change(picture)
    changed.save(path)


def remove_objects(path: Path) -> None:
    tree = ElementTree.parse(path)
    for thing in tree.getroot().findall("object"):
        tree.getroot().remove(thing)
    tree.write(path)


def rename(root: Path) -> None:
    for old, new in NEW_NAMES.items():
        for path in root.rglob(f"{old}.*"):
            path.rename(path.with_name(f"{new}{path.suffix}"))
    for path in (root / "ImageSets" / "Segmentation").iterdir():
        ids = path.read_text().split()
        text = "".join(f"{NEW_NAMES.get(image_id, image_id)}\n" for image_id in ids)
        path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def odd_dataset(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_dataset(tiny_dataset, tmp_path_factory.mktemp("odd") / "voc")
    images, saliency = root / "JPEGImages", root / "Sal"
    rewrite(images / f"{GRAY_JPEG}.jpg", lambda picture: picture.convert("L"))
    rewrite(images / f"{CMYK_JPEG}.jpg", lambda picture: picture.convert("CMYK"))
    remove_objects(root / "Annotations" / f"{WITHOUT_CLASS}.xml")
    rewrite(saliency / f"{BLACK_SALIENCY}.png", lambda picture: picture.point(lambda _: 0))
    others = [image_id for image_id in IDS if image_id != BLACK_SALIENCY]
    for image_id, change in zip(others, SALIENCY_MODES, strict=False):
        rewrite(saliency / f"{image_id}.png", change)
    rename(root)
    return root


@pytest.fixture(scope="module")
def finished(odd_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    # Batches of 16: more than there are images, where the original saved untrained weights.
    flags = ["--cam_batch_size=16", "--bes_batch_size=16", "--panels=8"]
    return run(odd_dataset, tmp_path_factory.mktemp("odd_run") / "out", *flags)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def test_all_steps_run_and_score_every_image(finished: Run) -> None:
    assert finished.status == 0, finished.stderr
    scores = json.loads((finished.out_dir / "scores.json").read_text())
    assert scores["eval_sem_seg"]["images"] == 8
    assert 0 < scores["eval_sem_seg"]["miou_crf"] < 1


@pytest.mark.parametrize("image_id", [*IDS[:4], *STRANGE_IDS])
def test_any_string_is_an_id(finished: Run, image_id: str) -> None:
    for name in (
        f"cam/{image_id}.npy", f"cam_vis/{image_id}.png", f"boundary_label/{image_id}.png",
        f"sem_seg/{image_id}.png", f"sem_seg/{image_id}_crf.png", f"panels/{image_id}.png",
    ):  # fmt: skip
        assert (finished.out_dir / name).is_file(), name


def test_fewer_images_than_a_batch_still_train(finished: Run) -> None:
    scores = json.loads((finished.out_dir / "scores.json").read_text())
    assert scores["train_cam"]["images"] == 16  # two epochs of all eight
    assert "train_cam: 2 updates, 8 images each" in finished.stderr


def test_an_image_without_a_class_is_background_everywhere(
    finished: Run, odd_dataset: Path
) -> None:
    size = read(odd_dataset / "JPEGImages" / f"{WITHOUT_CLASS}.jpg").shape[:2]
    cams = read_cams(finished.out_dir / "cam" / f"{WITHOUT_CLASS}.npy", size, num_classes=20)
    assert len(cams.class_ids) == 0
    for name in (f"cam_vis/{WITHOUT_CLASS}.png", f"sem_seg/{WITHOUT_CLASS}.png",
                 f"sem_seg/{WITHOUT_CLASS}_crf.png"):  # fmt: skip
        mask = read(finished.out_dir / name)
        assert mask.shape == size
        assert not mask.any()


def test_an_all_black_saliency_map_still_gives_labels(finished: Run) -> None:
    # The original divides by its maximum, 0: NaN everywhere, and silently no saliency labels.
    codes = read(finished.out_dir / "boundary_label" / f"{BLACK_SALIENCY}.png")
    assert (codes == 0).any()
    assert not (codes == 250).any()


def test_every_png_mode_of_saliency_gives_the_same_labels(
    finished: Run, odd_dataset: Path, tmp_path: Path
) -> None:
    # The same maps as plain 8-bit files; one bit a pixel is what the sixth really has less of.
    plain = copy_dataset(odd_dataset, tmp_path / "voc")
    for path in (plain / "Sal").iterdir():
        rewrite(path, lambda picture: as_gray(picture))
    label_dir = tmp_path / "label"
    again = run(
        plain, finished.out_dir, f"--boundary_label_dir={label_dir}", "--steps=make_boundary_label"
    )
    assert again.status == 0, again.stderr
    for path in label_dir.glob("*.png"):
        np.testing.assert_array_equal(
            read(path), read(finished.out_dir / "boundary_label" / path.name), path.name
        )


def as_gray(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        return Image.fromarray((np.array(picture) // 257).astype(np.uint8))
    return picture.convert("RGB").convert("L")


def test_the_odd_files_were_odd(odd_dataset: Path) -> None:
    modes = set()
    for path in [*(odd_dataset / "Sal").iterdir(), *(odd_dataset / "JPEGImages").iterdir()]:
        with Image.open(path) as picture:
            modes.add(picture.mode)
    assert {"L", "RGB", "RGBA", "LA", "P", "1", "CMYK"} <= modes
    assert modes & {"I", "I;16"}


@pytest.mark.slow
def test_tags_from_masks_and_from_a_file_give_the_same_run(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    from voc12.make_cls_labels import main

    file = tmp_path / "cls_labels.npy"
    assert main(["--voc12_root", str(tiny_dataset), "--out", str(file)]) == 0
    flags = ["--steps=train_cam,make_cam"]
    from_file = run(tiny_dataset, tmp_path / "file", f"--tags_from={file}", *flags)
    from_masks = run(tiny_dataset, tmp_path / "masks", "--tags_from=masks", *flags)
    for again in (from_file, from_masks):
        assert again.status == 0, again.stderr
        made = contents(again.out_dir)
        expected = contents(finished_run.out_dir)
        for name in made:
            if not name.endswith("settings.json"):
                assert made[name] == expected[name], name


def test_tags_of_a_file_that_lacks_an_image_are_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "cls_labels.npy"
    np.save(file, np.array({IDS[0]: np.zeros(20, np.float32)}, dtype=object), allow_pickle=True)
    stopped = run(tiny_dataset, tmp_path / "out", f"--tags_from={file}")
    assert stopped.status == 2
    assert f"{file} has no tags for 10 images" in stopped.stderr


def test_train_aug_falls_back_to_the_augmented_masks_then_to_train(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    root = copy_dataset(tiny_dataset, tmp_path / "voc")
    (root / "ImageSets" / "Segmentation" / "train_aug.txt").unlink()
    flags = ["--steps=train_cam", "--cam_num_epoches=1", "--cam_batch_size=2"]
    alone = run(root, tmp_path / "train", *flags)
    assert alone.status == 0
    assert "training on train alone" in alone.stderr
    stopped = run(root, tmp_path / "other", *flags, "--train_list=other")
    assert stopped.status == 2
    assert f"No list {root}/ImageSets/Segmentation/other.txt" in stopped.stderr
    augmented = root / "SegmentationClassAug"
    augmented.mkdir()
    for image_id in (*IDS[:5], "2007_000009"):  # the last is in val
        (augmented / f"{image_id}.png").touch()
    run(root, tmp_path / "aug", *flags)
    images = json.loads((tmp_path / "aug" / "scores.json").read_text())["train_cam"]["images"]
    assert images == 5  # in three batches
