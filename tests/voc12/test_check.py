"""What a run would find about a dataset is said without one, and ends as the run would begin."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run_sample
from misc.command_line import this_python
from misc.images import write_palette_png
from tests.helpers.drawn import SIZE, draw_boxes_dataset
from tests.helpers.tiny import TINY_FLAGS, copy_dataset
from voc12.check import WIDTH, Item, look_at, main
from voc12.picture_sizes import sizes_of

NAMES = ("mug", "tea spoon", "kettle")
SHOWN = [[1], [2, 1], [3], [], [1], [2]]  # the last two are val


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitchen") / "data"
    draw_boxes_dataset(root, NAMES, SHOWN)
    return root


@pytest.fixture
def data(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, `data` in the working directory."""
    monkeypatch.chdir(tmp_path)
    sizes_of.cache_clear()  # of another test's `data`
    return copy_dataset(drawn, tmp_path / "data")


def check(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit status, and the report in one line for each of its points."""
    status = main(["data", *words])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= WIDTH
    return status, " ".join(text.split())


def plan_of_command(report: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the run that the report advises would meet; "" if it would start."""
    command = shlex.split(report.rpartition("Next: ")[2].replace(" \\ ", " "))
    assert command[1] == "run_sample.py"
    assert run_sample.main([*command[2:], *TINY_FLAGS, "--plan", "--out_dir=out"]) == 0
    shown = capsys.readouterr().out
    return shown[shown.index("problem") :] if "problem" in shown else ""


def test_a_sound_dataset_ends_with_the_command_to_type(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["data"])
    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert lines[:8] == [
        "data",
        "  classes      3: mug, tea spoon, kettle",
        "  lists        train 4, train_aug 4 (train), val 2",
        "  photographs  6 of the lists; 88x64 each",
        "  tags         from csv: mug 3, tea spoon 2, kettle 1; without a class 1 image (photo 3)",
        "  saliency     4 sound maps of 4 images of train_aug in Sal; all black: 1 image (photo 3)",
        "  masks        4 of 4 images of train, 2 others",
        "",
    ]
    assert lines[8] == "Next:"
    assert lines[9].endswith("python run_sample.py --data_root data")
    assert len(lines) == 10
    assert plan_of_command(" ".join(lines), capsys) == ""


def test_without_maps_and_masks_the_command_says_so(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.rename("data/Sal", "maps")
    os.rename("data/SegmentationClass", "masks")
    status, report = check(capsys)
    assert status == 0
    assert "no folder Sal: --saliency make makes maps, --saliency none is BES" in report
    assert "0 of 4 images of train, 0 others; nothing can be scored" in report
    assert report.endswith("python run_sample.py --data_root data --saliency make")
    assert plan_of_command(report, capsys) == ""
    os.mkdir("data/SegmentationClass")
    flags = "--saliency make --eval_cam_pass no --eval_walk_pass no --eval_sem_seg_pass no"
    _, report = check(capsys)
    assert report.replace("\\ ", "").endswith(f"python run_sample.py --data_root data {flags}")
    assert plan_of_command(report, capsys) == ""
    status, report = check(capsys, "--sal_root=maps", "--tags_from=data/tags.csv")
    assert status == 0
    assert "--tags_from data/tags.csv --sal_root maps" in report
    assert plan_of_command(report, capsys) == ""


def write_list(split: str, *ids: str) -> None:
    Path(f"data/ImageSets/Segmentation/{split}.txt").write_text("".join(f"{i}\n" for i in ids))


def cut_off(path: str) -> None:
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])


def spoil_pixels(path: str) -> None:
    """Damage the pixels of a PNG: header and end are sound."""
    content = bytearray(Path(path).read_bytes())
    start = content.index(b"IDAT") + 4
    content[start : start + 20] = bytes(20)
    Path(path).write_bytes(content)


def rename_val() -> None:
    os.rename(PHOTO.format("photo 4"), PHOTO.format("x"))
    write_list("val", "x")
    retag("photo 4", "x")


def write_mask(path: str, value: int, size: tuple[int, int] = SIZE) -> None:
    mask = np.zeros(size, np.uint8)
    mask[3:9, 3:9] = value
    write_palette_png(Path(path), mask)


def retag(old: str, new: str) -> None:
    path = Path("data/tags.csv")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


MASK, SAL, PHOTO = "data/SegmentationClass/{}.png", "data/Sal/{}.png", "data/JPEGImages/{}.jpg"

# What a run refuses before it starts.
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no photograph": (lambda: os.remove(PHOTO.format("photo 1")), "photo 1.jpg is missing"),
    "val's photograph": (lambda: os.remove(PHOTO.format("photo 5")), "photo 5.jpg is missing"),
    "truncated": (lambda: cut_off(PHOTO.format("photo 0")), "photo 0.jpg is truncated"),
    "no list": (
        lambda: os.remove("data/ImageSets/Segmentation/train.txt"),
        "No list ImageSets/Segmentation/train.txt",
    ),
    "id twice": (lambda: write_list("train", "photo 0", "photo 0"), "names photo 0 twice"),
    "clash": (lambda: write_list("val", "photo 0_crf"), "would have the same name"),
    "unknown tag": (lambda: retag("mug", "cup"), "names the unknown class cup"),
    "no tag": (lambda: retag("photo 2", "photo two"), "has no tags for 1 image (photo 2)"),
    "no classes": (lambda: Path("data/classes.txt").write_text("\n"), "classes.txt has 0 names"),
    "no map": (lambda: os.remove(SAL.format("photo 2")), "Sal/photo 2.png is missing"),
    "map of another size": (
        lambda: write_mask(SAL.format("photo 2"), 9, (5, 7)), "Sal/photo 2.png is 7x5, but",
    ),
    "no mask": (lambda: os.remove(MASK.format("photo 1")), "photo 1.png is missing"),
    "mask of another size": (
        lambda: write_mask(MASK.format("photo 1"), 1, (5, 7)), "photo 1.png is 7x5, but",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_run_refuses_is_refused(
    data: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, message = REFUSED[what]
    spoil()
    status, report = check(capsys)
    assert status == 2
    assert message in report.partition("Problems:")[2]
    assert report.endswith("Next, when this is mended: " + report.rpartition("mended: ")[2])
    assert report.endswith("-m voc12.check data")
    flags = ["--data_root=data", "--out_dir=out", *TINY_FLAGS]
    assert run_sample.main(flags) == 2
    said = capsys.readouterr().err.replace("data/", "")
    assert message in " ".join(said.split())
    assert not Path("out/weights").exists()


def test_tags_without_any_class_are_refused_by_check_and_run(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/tags.csv").write_text("id,class\n" + "".join(f"photo {k}\n" for k in range(6)))
    status, report = check(capsys)
    assert status == 2
    assert "Not one of the 4 images of train_aug has a class" in report
    assert run_sample.main(["--data_root=data", "--out_dir=out", *TINY_FLAGS]) == 2
    assert "Not one of the 4 images of train_aug has a class" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: spoil_pixels(SAL.format("photo 1")), "Cannot read the saliency map Sal/photo 1"),
        (lambda: spoil_pixels(MASK.format("photo 0")), "Cannot read the mask SegmentationClass"),
        (lambda: write_mask(MASK.format("photo 0"), 77), "photo 0.png shows class 77, but there"),
        (
            lambda: Image.new("RGB", SIZE[::-1], (1, 2, 3)).save(MASK.format("photo 0")),
            "photo 0.png",
        ),
    ],
)
def test_what_would_stop_a_run_later_is_found(
    data: Path, spoil: Callable[[], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil()
    status, report = check(capsys)
    assert status == 2
    assert message in report.partition("Problems:")[2]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: os.remove("data/ImageSets/Segmentation/val.txt"), "Without a list val"),
        (lambda: write_list("val", "photo 0", "photo 5"), "1 image (photo 0) of train are in val"),
        (lambda: retag("photo 2,kettle", "photo 2,mug"), "No image of train_aug shows kettle"),
        (lambda: retag("photo 0,mug", "photo 0"), "1 image (photo 0) show classes that the tags"),
        (lambda: retag("photo 3", "photo 3,mug"), "1 image (photo 3) name classes that the mask"),
        (lambda: write_mask(MASK.format("photo 5"), 4), "(photo 5) do not fit: Segmentation"),
        (lambda: write_mask(MASK.format("photo 5"), 1, (5, 7)), "photo 5.png is 7x5, but JPEG"),
        (lambda: spoil_pixels(MASK.format("photo 5")), "(photo 5) do not fit: Cannot read"),
        (lambda: retag("photo 3", "photo 3,mug"), "(photo 3), of which 1 with a class"),
        (rename_val, "5 of the lists, 1 in no list"),
    ],
)
def test_what_is_only_worth_knowing_lets_the_run_start(
    data: Path, spoil: Callable[[], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil()
    status, report = check(capsys)
    assert status == 0
    assert message in report
    assert plan_of_command(report, capsys) == ""


def test_soft_maps_need_their_flag(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("data/Sal").iterdir():
        with Image.open(path) as picture:
            levels = np.maximum(np.array(picture), 3)
        Image.fromarray(levels).save(path)
    status, report = check(capsys)
    assert status == 0
    assert "soft maps: hardly a pixel is exactly 0" in report
    assert report.endswith("--data_root data --sal_bg_thres 0.1")


def test_photographs_that_viewers_rotate_are_told(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = PHOTO.format("photo 1")
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(path, exif=exif)
    status, report = check(capsys)
    assert status == 0
    assert "Viewers rotate 1 image (photo 1) of 6, as the EXIF data say." in report


def test_many_problems_are_cut_short(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [f"bad{k}" for k in range(30)]
    for image_id in ids:
        Path(PHOTO.format(image_id)).write_bytes(b"words")
    write_list("train", *ids, "gone", "away")
    status, report = check(capsys)
    assert status == 2
    assert "Photograph of 2 images (first: gone): JPEGImages/gone.jpg is missing, and so" in report
    assert "bad8.jpg is not a readable picture" in report
    assert "bad9.jpg" not in report
    assert "... and 21 more images" in report


def test_where_there_is_no_dataset_the_way_to_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert f"{this_python()} -m voc12.init {tmp_path}" in capsys.readouterr().err
    (tmp_path / "JPEGImages").mkdir()
    assert main([str(tmp_path), "--sal_root=none"]) == 2
    assert "--sal_root none is not a folder" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    report = capsys.readouterr().out
    assert "VOC's 20, since there is no classes.txt" in report
    assert "writes one of all photographs" in " ".join(report.split())


def test_an_image_alone_is_looked_at_as_it_is(tmp_path: Path) -> None:
    photograph, saliency, mask = (tmp_path / name for name in ("a.jpg", "s.png", "m.png"))
    Image.new("L", (4, 4)).save(photograph)
    levels = np.zeros((4, 4), np.uint8)
    levels[0, :2] = 200, 10  # 10 of 200 is below a tenth, but not 0
    Image.fromarray(levels).save(saliency)
    write_palette_png(mask, np.array([[0, 255, 3, 7]] * 4, np.uint8))
    look = look_at(Item("a", photograph, saliency, mask))
    assert (look.problems, look.note, look.is_black, look.is_soft) == ({}, "", False, False)
    assert look.mask_ids == {3, 7}
    Image.fromarray(np.maximum(levels, 1)).save(saliency)
    assert look_at(Item("a", photograph, saliency, None)).is_soft
    Image.fromarray(levels * 0).save(saliency)
    assert look_at(Item("a", photograph, saliency, None)).is_black
    nothing = look_at(Item("a", photograph, None, None))
    assert (nothing.is_black, nothing.mask_ids) == (None, None)


@pytest.mark.slow
def test_photographs_of_voc(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shared_data / "voc12_animals"
    assert main([str(root), "--num_workers=2"]) == 0
    report = " ".join(capsys.readouterr().out.split())
    for line in (
        "lists train 437, train_aug 600, val 100",
        "photographs 700 of the lists; 241x173 to 500x500, 154 sizes",
        "from xml: aeroplane 0, bicycle 1,",
        "600 sound maps of 600 images of train_aug in Sal; soft maps",
        "437 of 437 images of train, 263 others",
        "The tags of 14 images (first: 2008_004545) name classes that the mask lacks.",
        f"run_sample.py --data_root {root} --sal_bg_thres 0.1",
    ):
        assert line in report
