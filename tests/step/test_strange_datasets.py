"""What is strange about a dataset is refused in one sentence, or told in plan and scores."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.tiny import Run, copy_dataset, copy_run, run, scores_of
from voc12.check import main as check
from voc12.classes import VOC_CLASSES

IDS = [f"2007_{number:06d}" for number in range(1, 9)]
LISTS = "ImageSets/Segmentation"
XML = f"Annotations/{IDS[2]}.xml"
MASK, SALIENCY = f"SegmentationClass/{IDS[2]}.png", f"Sal/{IDS[2]}.png"
PHOTOGRAPH = f"JPEGImages/{IDS[2]}.jpg"

Spoil = Callable[[Path], object]


@pytest.fixture
def voc(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset to spoil."""
    return copy_dataset(tiny_dataset, tmp_path / "voc")


def fifo(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        os.mkfifo(root / name)

    return spoil


def link(name: str, target: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)

    return spoil


def table_as(make: Callable[[str], Spoil]) -> Spoil:
    """Something in place of tags.csv, in a dataset without XML."""

    def spoil(root: Path) -> None:
        shutil.rmtree(root / "Annotations")
        make("tags.csv")(root)

    return spoil


def classes(*names: str) -> Spoil:
    return lambda root: (root / "classes.txt").write_text("\n".join(names))


def write(name: str, content: bytes) -> Spoil:
    return lambda root: (root / name).write_bytes(content)


def mode(name: str, kind: str) -> Spoil:
    def spoil(root: Path) -> None:
        with Image.open(root / name) as picture:
            size = picture.size
        Image.new(kind, size).save(root / name)

    return spoil


def show_class(name: str, class_id: int) -> Spoil:
    def spoil(root: Path) -> None:
        with Image.open(root / name) as picture:
            mask = np.array(picture)
        mask[3:9, 3:9] = class_id
        Image.fromarray(mask).save(root / name)

    return spoil


def spoil_pixels(name: str) -> Spoil:
    """Damage the pixels of a PNG: header and end are sound."""

    def spoil(root: Path) -> None:
        content = bytearray((root / name).read_bytes())
        start = content.index(b"IDAT") + 9
        content[start : start + 20] = bytes(20)
        (root / name).write_bytes(content)

    return spoil


def photograph_as_png(root: Path) -> None:
    with Image.open(root / PHOTOGRAPH) as picture:
        picture.save((root / PHOTOGRAPH).with_suffix(".png"))
    (root / PHOTOGRAPH).unlink()
    spoil_pixels(f"JPEGImages/{IDS[2]}.png")(root)


def augmented(spoil: Spoil) -> Spoil:
    """Masks of the augmented set, one of them spoilt."""

    def spoil_one(root: Path) -> None:
        shutil.copytree(root / "SegmentationClass", root / "SegmentationClassAug")
        spoil(root)

    return spoil_one


def untag(count: int) -> Spoil:
    def spoil(root: Path) -> None:
        for image_id in IDS[:count]:
            (root / "Annotations" / f"{image_id}.xml").write_text("<annotation/>")
        for path in list((root / "Annotations").iterdir()) if count == len(IDS) else []:
            path.write_text("<annotation/>")

    return spoil


def stray_mask(root: Path) -> None:
    (root / LISTS / "train_aug.txt").unlink()
    folder = root / "SegmentationClassAug"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).touch()


NOT_REGULAR = "cannot be read (it is not a regular file)"
NOWHERE = "is a link to /nowhere/x, which is not there. Mend the link, or remove it."
AUG = f"SegmentationClassAug/{IDS[2]}.png"
TO_SEG = ("--steps=train_seg", "--seg_label_dir=gt", "--seg_init=none")

REFUSED: dict[str, tuple[Spoil, tuple[str, ...], str]] = {
    "background first": (
        classes("background", *VOC_CLASSES), (),
        "{}/classes.txt names background, which is no class of yours: it is class 0 in any case.",
    ),
    "background last": (classes(*VOC_CLASSES, "Background"), (), "Background, which is no class"),
    "page": (write(XML, b"<html/>"), (), "is no annotation of VOC's kind: it begins with <html>"),
    "encoding": (
        write(XML, b"<?xml version='1.0' encoding='klingon'?><annotation/>"), (),
        "is not valid XML (unknown encoding: klingon). Replace the file.",
    ),
    "no tags": (untag(8), ("--steps=make_cam",), "Not one of the 8 images of train_aug has a"),
    "XML a pipe": (fifo(XML), (), f"{{}}/{XML} {NOT_REGULAR}"),
    "XML a device": (link(XML, "/dev/zero"), (), f"{{}}/{XML} {NOT_REGULAR}"),
    "table a pipe": (table_as(fifo), (), f"{{}}/tags.csv {NOT_REGULAR}"),
    "table a device": (
        table_as(lambda name: link(name, "/dev/zero")), (), f"{{}}/tags.csv {NOT_REGULAR}",
    ),
    "no table": (table_as(lambda name: link(name, "/nowhere/x")), (), f"{{}}/tags.csv {NOWHERE}"),
    "classes a pipe": (fifo("classes.txt"), (), f"{{}}/classes.txt {NOT_REGULAR}"),
    "classes a device": (
        link("classes.txt", "/dev/zero"), (), f"{{}}/classes.txt {NOT_REGULAR}",
    ),
    "no classes": (link("classes.txt", "/nowhere/x"), (), f"{{}}/classes.txt {NOWHERE}"),
    "list a pipe": (fifo(f"{LISTS}/train.txt"), (), f"train.txt {NOT_REGULAR}"),
    "list a device": (link(f"{LISTS}/val.txt", "/dev/null"), (), f"val.txt {NOT_REGULAR}"),
    "no train_aug": (link(f"{LISTS}/train_aug.txt", "/nowhere/x"), (), f"train_aug.txt {NOWHERE}"),
    "no val": (link(f"{LISTS}/val.txt", "/nowhere/x"), (), f"val.txt {NOWHERE}"),
    "unread list": (
        lambda root: None, ("--train_list=nope",), f"No list {{}}/{LISTS}/nope.txt. Write one",
    ),
    "long id": (
        write(f"{LISTS}/train.txt", b"a" * 240), (),
        f"train.txt: {'a' * 40}... is too long for the names of files that are made of it.",
    ),
    "name": (stray_mask, (), r"SegmentationClassAug: the name 'caf\udce9' is not UTF-8. Rename"),
    "mask's mode": (mode(MASK, "RGBA"), (), f"{{}}/{MASK} has mode RGBA: a mask is a palette or"),
    "mask's class": (show_class(MASK, 77), (), f"{{}}/{MASK} shows class 77, but there are 20."),
    "mask's pixels": (spoil_pixels(MASK), (), f"Cannot read the mask {{}}/{MASK}: broken data"),
    "map's pixels": (spoil_pixels(SALIENCY), (), f"Cannot read the saliency map {{}}/{SALIENCY}"),
    "photograph's pixels": (photograph_as_png, (), "Cannot read the image {}/JPEGImages/2007_0"),
    "class to learn": (augmented(show_class(AUG, 21)), TO_SEG,
                       f"{{}}/{AUG} holds 21, which a mask of 20 classes does not"),
    "mode to learn": (augmented(mode(AUG, "LA")), TO_SEG, f"{{}}/{AUG} has mode LA: a mask is a"),
    "pixels to learn": (augmented(spoil_pixels(AUG)), TO_SEG, f"Cannot read the mask {{}}/{AUG}"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_strange_dataset_is_refused_before_anything_is_made(
    voc: Path, tmp_path: Path, what: str
) -> None:
    spoil, flags, message = REFUSED[what]
    spoil(voc)
    refused = run(voc, tmp_path / "out", *flags)
    assert refused.status == 2
    assert message.replace("{}", str(voc)) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count(message.rpartition("{}")[2]) == 1, "one sentence"
    assert not (tmp_path / "out" / "weights").exists()


SEEDS = ("--seed=18446744073709551616", "--seg_seeds=1,99999999999999999999999")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (SEEDS[:1], f"{SEEDS[0].replace('=', ' ')}: a seed is at most 2^63 - 1"),
        (SEEDS[1:], "--seg_seeds 1,99999999999999999999999: a seed is at most 2^63 - 1"),
        (["--steps=make_cams"], "--steps: unknown step make_cams. Did you mean make_cam"),
        (
            ["--from=eval_sem"],
            "--from: unknown step eval_sem. Did you mean eval_seg or eval_sem_seg?",
        ),
        (
            [f"--sal_root={os.fsdecode(b'caf%c' % 0xE9)}"],
            r"--sal_root caf\udce9: the name is not UTF-8",
        ),
        ([f"--cam_out_dir={'a' * 256}"], ": a name has at most 255 bytes"),
        ([f"--cam_weights_name={'a' * 240}"], ": the name has at most 238 bytes"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(
    tiny_dataset: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    refused = run(tiny_dataset, tmp_path / "out", *flags)
    assert refused.status == 2
    assert message in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine\n"), os.mkfifo])
def test_a_file_of_the_users_is_no_log(
    tiny_dataset: Path, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "notes.log")
    refused = run(tiny_dataset, tmp_path / "out", f"--log_name={tmp_path}/notes")
    assert refused.status == 2
    assert f"--log_name: {tmp_path}/notes.log is there, and is no log." in refused.stderr
    assert not (tmp_path / "notes.log").is_file() or (
        (tmp_path / "notes.log").read_text() == "mine\n"
    )


def test_the_largest_seed_trains(tiny_dataset: Path, tmp_path: Path) -> None:
    done = run(
        tiny_dataset, tmp_path / "out", "--steps=train_cam", "--cam_num_epoches=1",
        f"--seed={2**63 - 1}",
    )  # fmt: skip
    assert done.status == 0


def test_folders_that_must_not_be_written_into_are_told_in_the_plan(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    may = os.access
    monkeypatch.setattr(  # for root, who may everything
        "step.common.disk.os.access", lambda path, how: Path(path) != closed and may(path, how)
    )
    flags = [f"--sem_seg_out_dir={closed}/sem_seg", f"--bes_weights_name={closed}/bes.pth"]
    refused = run(tiny_dataset, tmp_path / "out", *flags)
    assert refused.status == 2
    assert "2 problems, and nothing was started" in refused.stderr
    for flag in flags:
        word = flag.replace("=", " ")
        assert f"{word}: {closed} cannot be written into. Change its" in refused.stderr
    assert not (tmp_path / "out" / "weights").exists()


def rotate(root: Path) -> None:
    """Two photographs that viewers rotate: their pixels stay as they are."""
    for image_id in IDS[1:3]:
        path = root / "JPEGImages" / f"{image_id}.jpg"
        content = path.read_bytes()
        with Image.open(path) as picture:
            exif = picture.getexif()
        exif[0x0112] = 6
        block = exif.tobytes()
        marker = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
        path.write_bytes(content[:2] + marker + content[2:])


def cut_off(root: Path) -> None:
    path = root / PHOTOGRAPH
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] + b"\xff\xd9")


WARNINGS: dict[str, tuple[Spoil, str]] = {
    "rotated": (rotate, f"Viewers rotate 2 images (first: {IDS[1]}) of 8, as the EXIF data say."),
    "cut off": (cut_off, f"1 image ({IDS[2]}) of 8 end in the gray that stands for missing parts"),
    "untagged": (untag(1), f"1 image ({IDS[0]}) of 8 have no class: they count as background"),
    "train_aug": (
        lambda root: (root / LISTS / "train_aug.txt").unlink(),
        "/train_aug.txt and SegmentationClassAug are missing: training on train alone.",
    ),
}  # fmt: skip
LONG = ("--cam_num_epoches=30", "--bes_num_epoches=30")  # a short training has its own warning


@pytest.mark.parametrize("what", WARNINGS)
def test_what_may_be_meant_is_told_once_in_the_plan(voc: Path, tmp_path: Path, what: str) -> None:
    spoil, text = WARNINGS[what]
    spoil(voc)
    planned = run(voc, tmp_path / "out", *LONG, "--plan")
    assert planned.status == 0
    assert "problem" not in planned.stdout
    assert text in planned.stdout
    assert (planned.stdout + planned.stderr).count("Warning: ") == 1


def test_what_may_be_meant_stands_in_the_scores(voc: Path, tmp_path: Path) -> None:
    flags = ["--steps=train_cam", *LONG]
    sound = run(voc, tmp_path / "out", *flags)
    assert "Warning" not in sound.stdout + sound.stderr
    assert "warnings" not in scores_of(tmp_path / "out")["train_cam"]
    for spoil, _ in WARNINGS.values():
        spoil(voc)
    done = run(voc, tmp_path / "out", *flags, "--overwrite")
    assert done.status == 0
    warnings = scores_of(tmp_path / "out")["train_cam"]["warnings"]
    assert len(warnings) == len(WARNINGS)
    for (_, text), warning in zip(WARNINGS.values(), warnings, strict=True):
        assert text in warning
        assert done.stderr.count(f"Warning: {warning}") == 1


def test_rotated_photographs_are_read_as_their_pixels_are_stored(
    voc: Path, finished_run: Run, tmp_path: Path
) -> None:
    rotate(voc)
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (out_dir / "sem_seg").iterdir()}
    done = run(voc, out_dir, "--steps=make_sem_seg", "--overwrite")
    assert done.status == 0
    assert "Warning: Viewers rotate 2 images" in done.stderr
    after = {path.name: path.read_bytes() for path in (out_dir / "sem_seg").iterdir()}
    del before["settings.json"], after["settings.json"]
    assert after == before


def test_own_datasets_need_no_train_aug(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (voc / LISTS / "train_aug.txt").unlink()
    classes(*VOC_CLASSES, "mug")(voc)
    planned = run(voc, tmp_path / "out", *LONG, "--plan")
    assert planned.status == check([str(voc), "--num_workers=0"]) == 0
    said = planned.stdout + planned.stderr + "".join(capsys.readouterr())
    assert "missing: training" not in said
    assert "Warning" not in said


def test_names_that_are_no_text_may_lie_beside_the_data(voc: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    for folder in ("JPEGImages", "Annotations", "Sal", "SegmentationClass", LISTS):
        (voc / folder / name).touch()
    assert run(voc, tmp_path / "out", "--plan").status == 0
    assert check([str(voc), "--num_workers=0"]) == 0
    tool = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(voc, tool)
    assert check([str(tool), "--num_workers=0"]) in (0, 2)
