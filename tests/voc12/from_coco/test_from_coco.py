import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from misc.images import read_mask, voc_palette
from tests.helpers.coco import (
    CATEGORY_IDS,
    SIZE,
    Coco,
    box,
    compressed,
    drawn_by_pycocotools,
    every_kind,
    name_of,
    picture,
    uncompressed,
)
from tests.helpers.paths import ROOT
from voc12.files import VocDataset
from voc12.from_coco import convert as coco_convert
from voc12.from_coco.__main__ import main
from voc12.image_labels import find_tags_source, read_tags
from voc12.lists import split_ids

LABELLED = [name_of("train", number) for number in (1, 3, 5, 6, 7)]
ALL = [name_of("train", number) for number in range(1, 8)]


def convert(coco: Coco | list[Coco], root: Path, *flags: str) -> int:
    cocos = coco if isinstance(coco, list) else [coco]
    pairs = [f"--{key}={path}" for c in cocos for key, path in
             (("annotations", c.path), ("images", c.images_dir))]  # fmt: skip
    return main([*pairs, f"--out={root}", "--num_workers=0", *flags])


def masks_of(root: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_mask(path) for path in (root / "SegmentationClass").iterdir()}


def list_of(root: Path, name: str) -> list[str]:
    return (root / "ImageSets" / "Segmentation" / f"{name}.txt").read_text().splitlines()


def provenance(root: Path) -> dict[str, Any]:
    return json.loads((root / "from_coco" / "provenance.json").read_text())


def files_of(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file() and path.name != "provenance.json")
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def stamps_of(root: Path) -> dict[Path, tuple[int, int]]:
    made = (p for name in ("JPEGImages", "SegmentationClass") for p in (root / name).iterdir())
    return {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in made}


def edited(coco: Coco, edit: Callable[[dict[str, Any]], object]) -> Coco:
    content = json.loads(json.dumps(coco.content))
    edit(content)
    coco.path.write_text(json.dumps(content))
    return coco


@pytest.mark.parametrize(("crowd", "value"), [("ignore", 255), ("background", 0)])
@pytest.mark.parametrize("indent", [None, 1])
def test_masks_are_those_that_pycocotools_decodes(
    tmp_path: Path, crowd: str, value: int, indent: int | None
) -> None:
    coco = every_kind(tmp_path)
    path = coco.write(indent=indent, ensure_ascii=indent is None)
    assert convert(coco, tmp_path / "root", f"--crowd={crowd}") == 0
    expected = drawn_by_pycocotools(path, value)
    found = masks_of(tmp_path / "root")
    assert found.keys() == expected.keys() == set(ALL)
    for image_id, mask in found.items():
        np.testing.assert_array_equal(mask, expected[image_id], image_id)
    shown = set(np.unique(np.stack(list(found.values()))).tolist())
    assert {0, 80, 12} < shown
    assert (255 in shown) == (value == 255)
    assert not found[ALL[1]].any()
    with Image.open(tmp_path / "root" / "SegmentationClass" / f"{ALL[0]}.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette() == voc_palette().ravel().tolist()


def test_the_folder_is_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    root = tmp_path / "root"
    assert convert(coco, root) == 0
    dataset = VocDataset.open(root)
    assert dataset.class_names == ("pérsön", *(f"thing {i}" for i in CATEGORY_IDS[1:]))
    assert (dataset.num_classes, dataset.class_names[-1]) == (80, "thing 90")
    assert split_ids(dataset, "train") == list_of(root, "train_labelled") == LABELLED
    assert list_of(root, "train_all") == ALL
    for image_id in ALL:
        link = dataset.image_path(image_id)
        assert link.is_symlink()
        assert link.samefile(coco.images_dir / link.name)
    assert find_tags_source(dataset) == "csv"
    tags = read_tags(dataset, ALL, "csv")
    classes = [(np.flatnonzero(tags[image_id]) + 1).tolist() for image_id in ALL]
    assert classes == [[1, 2, 12, 80], [], [3, 80], [], [40], [4], [80]]
    table = (root / "tags.csv").read_text(encoding="utf-8").splitlines()
    assert table[:3] == ["id,class", f"{ALL[0]},pérsön,thing 2,thing 13,thing 90", ALL[1]]
    told = capsys.readouterr().err
    assert "7 images, 5 with a label, 15 annotations (3 crowds: background)" in told
    assert f"2 images have no label (their masks are all background): {ALL[1]}, {ALL[3]}" in told
    assert f"2 images are grayscale (every step reads them as RGB): {ALL[1]}, {ALL[2]}" in told
    assert "6 annotations have no area or lie outside their image: " in told


def test_provenance_names_how_masks_were_drawn(tmp_path: Path) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    coco.content["annotations"].append({"id": 1, "image_id": 999, "category_id": 1})
    coco.write()
    assert convert(coco, tmp_path / "root", "--crowd=ignore") == 0
    found = provenance(tmp_path / "root")
    assert "crowd regions first, then every other annotation in the order" in found["drawing_order"]
    (summary,) = found["annotation_files"].values()
    assert (summary["crowd"], summary["split"], summary["listed"]) == (
        "ignore",
        "train",
        "labelled",
    )
    assert (summary["images"], summary["images_with_a_label"]) == (7, 5)
    assert summary["annotations_without_pixels"]["number"] == 6
    assert summary["annotations_of_unknown_images"] == 1
    assert summary["links"] == {"symbolic link": 7, "hard link": 0}


def test_a_flag_decides_whether_images_without_a_label_are_listed(tmp_path: Path) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    root = tmp_path / "root"
    assert convert(coco, root, "--list_images=all") == 0
    assert list_of(root, "train") == ALL
    before = stamps_of(root)
    assert convert(coco, root, "--list_images=labelled") == 0
    assert list_of(root, "train") == LABELLED
    assert stamps_of(root) == before


def test_val_joins_train_by_a_later_call_or_the_same(tmp_path: Path) -> None:
    train, val = every_kind(tmp_path), every_kind(tmp_path, "val")
    train.write()
    val.write()
    assert convert(train, tmp_path / "a") == 0
    assert convert(val, tmp_path / "a") == 0
    assert convert([val, train], tmp_path / "b") == 0
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert provenance(tmp_path / "a") == provenance(tmp_path / "b")
    assert len(list_of(tmp_path / "a", "val")) == len(list_of(tmp_path / "a", "train")) == 5
    assert len((tmp_path / "a" / "tags.csv").read_text().splitlines()) == 15


def test_worker_processes_make_the_same(tmp_path: Path) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    assert convert(coco, tmp_path / "one") == 0
    assert convert(coco, tmp_path / "two", "--num_workers=2") == 0
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


KILLER = """
import os, signal, sys
from pathlib import Path
from voc12.from_coco import __main__ as from_coco
from voc12.from_coco import convert as coco_convert

coco_convert.CHUNK = 2
real, pattern, left = os.replace, sys.argv[1], int(sys.argv[2])

def replace(source, target):
    global left
    left -= Path(target).match(pattern)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)

os.replace = replace
sys.exit(from_coco.main(sys.argv[3:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "count"),
    [("SegmentationClass/*.png", 4), ("part_*.json", 2), ("JPEGImages/*", 3), ("*/train.txt", 1)],
)
def test_killed_it_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, count: int
) -> None:
    monkeypatch.setattr(coco_convert, "CHUNK", 2)
    coco = every_kind(tmp_path)
    coco.write()
    assert convert(coco, tmp_path / "whole") == 0
    root = tmp_path / "root"
    flags = [f"--annotations={coco.path}", f"--images={coco.images_dir}", f"--out={root}"]
    command = [sys.executable, "-c", KILLER, pattern, str(count), *flags, "--num_workers=0"]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not list(root.glob("ImageSets/Segmentation/train.txt"))
    finished = {
        done["id"] for p in root.glob("from_coco/*/part_*") for done in json.loads(p.read_text())
    }
    before = stamps_of(root)
    assert convert(coco, root) == 0
    assert files_of(root) == files_of(tmp_path / "whole")
    after = stamps_of(root)
    assert finished
    assert [path for path in before if path.stem in finished and after[path] != before[path]] == []


def test_what_was_deleted_or_moved_is_made_again(tmp_path: Path) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    root = tmp_path / "root"
    assert convert(coco, root) == 0
    before = files_of(root)
    (root / "SegmentationClass" / f"{ALL[2]}.png").unlink()
    assert convert(coco, root) == 0
    assert files_of(root) == before
    coco.images_dir = coco.images_dir.rename(tmp_path / "moved")
    assert convert(coco, root) == 0
    assert files_of(root) == before
    assert (root / "JPEGImages" / f"{ALL[0]}.jpg").resolve().parent == tmp_path / "moved"


def test_without_symbolic_links_hard_links_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(1, "Operation not permitted")

    coco = every_kind(tmp_path)
    coco.write()
    monkeypatch.setattr(os, "symlink", refuse)
    assert convert(coco, tmp_path / "root") == 0
    for path in (tmp_path / "root" / "JPEGImages").iterdir():
        assert not path.is_symlink()
        assert path.samefile(coco.images_dir / path.name)
    (summary,) = provenance(tmp_path / "root")["annotation_files"].values()
    assert summary["links"] == {"symbolic link": 0, "hard link": 7}
    monkeypatch.setattr(os, "link", refuse)
    assert convert(coco, tmp_path / "other") == 2
    assert "cannot be linked to" in capsys.readouterr().err


def change(key: str, **values: Any) -> Callable[[dict[str, Any]], object]:
    """Change the first entry of an array; a value None removes the field."""

    def edit(content: dict[str, Any]) -> None:
        entry = content[key][0]
        entry |= values
        content[key][0] = {name: value for name, value in entry.items() if value is not None}

    return edit


@pytest.mark.parametrize(
    ("edit", "reasons"),
    [
        (change("annotations", category_id=91), ["the category_id 91, which no category has"]),
        (change("annotations", category_id="1"), ["has the category_id '1'", "annotations"]),
        (change("annotations", category_id=None), ["has no category_id"]),
        (change("annotations", image_id=None), ["has no image_id"]),
        (
            change("annotations", segmentation=None),
            ["annotation 1000: its segmentation is neither"],
        ),
        (change("annotations", segmentation={"size": [9, 9], "counts": [81]}), ["for size [9, 9]"]),
        (change("images", file_name=None), ["has no file_name"]),
        (change("images", file_name="../a.jpg"), ["which is outside --images"]),
        (change("images", file_name="/etc/a.jpg"), ["which is outside --images"]),
        (change("images", file_name="a\n.jpg"), ["cannot be a line of a list"]),
        (change("images", file_name="a.gif"), ["neither a JPEG nor a PNG"]),
        (change("images", id=2), ["has the id 2, which another one also has"]),
        (change("images", file_name=f"x/{ALL[1]}.jpg"), [f"names {ALL[1]} twice"]),
        (change("images", height=0), ["has the size 50x0"]),
        (change("images", height=None), ["has no height"]),
        (change("images", width=51), [f"{ALL[0]}.jpg is 50x40, but", "says 51x40. Replace"]),
        (change("images", file_name="gone.jpg"), ["lacks 1 of 7 images", "gone.jpg"]),
        (change("categories", id=1), ["repeats the id 1"]),
        (change("categories", name="thing 2"), ["the name 'thing 2'"]),
        (change("categories", name=" a"), ["which cannot be a line of classes.txt"]),
        (lambda c: c.pop("annotations"), ["7 images, 80 categories and 0 annotations"]),
        (lambda c: c.update(images=[]), ["has 0 images, 80 categories"]),
        (lambda c: c["images"].append(7), ["entry None of its images", "is not an object"]),
        (
            lambda c: c["categories"].extend({"id": i, "name": str(i)} for i in range(100, 300)),
            ["has 280 categories, more than the 254 that a mask can hold"],
        ),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[dict[str, Any]], object],
    reasons: list[str],
) -> None:
    coco = edited(every_kind(tmp_path), edit)
    assert convert(coco, tmp_path / "root") == 2
    told = capsys.readouterr().err
    for reason in [str(coco.path), *reasons]:
        assert reason in told
    assert not (tmp_path / "root" / "ImageSets").exists()


def test_a_truncated_json_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = every_kind(tmp_path)
    content = coco.write().read_bytes()
    coco.path.write_bytes(content[: len(content) // 2])
    assert convert(coco, tmp_path / "root") == 2
    assert f"{coco.path} is not a complete JSON file" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


def test_one_bad_image_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    shutil.copy(coco.path, tmp_path / "good.json")
    root, bad = tmp_path / "root", coco.images_dir / f"{ALL[4]}.jpg"
    good = bad.read_bytes()
    bad.write_bytes(b"no picture")
    picture(coco.images_dir / f"{ALL[3]}.jpg", (41, 50))
    assert convert(coco, root) == 2
    told = capsys.readouterr().err
    assert "2 of 7 images" in told
    assert f"{bad} is not a readable picture" in told
    assert f"{ALL[3]}.jpg is 50x41, but" in told
    assert masks_of(root).keys() == set(ALL) - {ALL[3], ALL[4]}
    bad.write_bytes(good)
    picture(coco.images_dir / f"{ALL[3]}.jpg")
    assert convert(coco, root) == 0
    assert masks_of(root).keys() == set(ALL)


def test_missing_images_may_be_left_out_and_join_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    root, away = tmp_path / "root", tmp_path / "away.jpg"
    missing = coco.images_dir / f"{ALL[2]}.jpg"
    missing.rename(away)
    assert convert(coco, root) == 2
    assert f"lacks 1 of 7 images of {coco.path}" in capsys.readouterr().err
    assert convert(coco, root, "--missing_images=skip") == 0
    assert f"1 images are missing and left out: {missing.name}" in capsys.readouterr().err
    assert list_of(root, "train_all") == [i for i in ALL if i != ALL[2]]
    away.rename(missing)
    assert convert(coco, root) == 0
    assert list_of(root, "train_all") == ALL
    coco.images_dir = tmp_path / "none"
    assert convert(coco, root, "--missing_images=skip") == 2
    assert "lacks 7 of 7 images" in capsys.readouterr().err


def test_one_folder_has_one_rule_for_crowds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = every_kind(tmp_path), every_kind(tmp_path, "val")
    train.write()
    val.write()
    root = tmp_path / "root"
    assert convert([train, val], root, "--crowd=background") == 0
    before = files_of(root)
    assert convert(train, root, "--crowd=ignore") == 2
    assert "--crowd was background, is ignore" in capsys.readouterr().err
    assert convert(train, root, "--crowd=ignore", "--overwrite") == 2
    assert "also holds instances_val2014, made with different settings" in capsys.readouterr().err
    assert files_of(root) == before
    assert convert([train, val], root, "--crowd=ignore", "--overwrite") == 0
    expected = drawn_by_pycocotools(train.path, 255) | drawn_by_pycocotools(val.path, 255)
    for image_id, mask in masks_of(root).items():
        np.testing.assert_array_equal(mask, expected[image_id])


def test_changed_annotations_are_refused_until_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    root = tmp_path / "root"
    assert convert(coco, root) == 0
    coco.image({"category_id": 1, "segmentation": uncompressed(box(0, 0, 9, 9))})
    coco.write()
    assert convert(coco, root) == 2
    assert "instances_train2014.json changed" in capsys.readouterr().err
    assert len(list_of(root, "train")) == 5
    assert convert(coco, root, "--overwrite") == 0
    assert list_of(root, "train") == [*LABELLED, name_of("train", 8)]


def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = every_kind(tmp_path), every_kind(tmp_path, "val")
    train.write()
    edited(val, change("categories", name="other"))
    assert convert([train, val], tmp_path / "root") == 2
    assert "have different categories" in capsys.readouterr().err
    assert convert(train, tmp_path / "root") == 0
    assert convert(val, tmp_path / "root") == 2
    assert "the categories changed" in capsys.readouterr().err
    same = every_kind(tmp_path)
    same.path = tmp_path / "instances_minival.json"
    same.write()
    assert convert(same, tmp_path / "root") == 2
    assert f"names {ALL[0]} twice" in capsys.readouterr().err


def test_folders_of_somebody_else_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = every_kind(tmp_path)
    coco.write()
    for name in ("classes.txt", "tags.csv"):
        root = tmp_path / name.removesuffix(".txt")
        root.mkdir()
        (root / name).write_text("mug\n")
        assert convert(coco, root) == 2
        assert "was not made from COCO" in capsys.readouterr().err
        assert [path.name for path in root.iterdir()] == [name]
    root = tmp_path / "with_images"
    picture(root / "JPEGImages" / f"{ALL[0]}.jpg")
    assert convert(coco, root) == 2
    assert "exists and is a different file from" in capsys.readouterr().err


def test_flags_must_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = every_kind(tmp_path)
    coco.path = tmp_path / "mine.json"
    coco.write()
    assert convert(coco, tmp_path / "root") == 2
    assert "does not say train or val. Pass --splits." in capsys.readouterr().err
    for flags, reason in (
        (["--splits", "a", "b"], "--splits has 2 values, --annotations has 1"),
        (["--splits", "a/b"], "a name may have letters"),
        (["--splits", "a_all"], "this ending is reserved"),
        (["--splits", "a", "--images", "b"], "--images has 2 values, --annotations has 1"),
    ):
        assert convert(coco, tmp_path / "root", *flags) == 2
        assert reason in capsys.readouterr().err
    assert convert(coco, tmp_path / "root", "--splits", "mine") == 0
    assert list_of(tmp_path / "root", "mine") == LABELLED


def test_a_dataset_comes_back_and_trains(tiny_dataset: Path, tmp_path: Path) -> None:
    from tests.helpers.tiny import run

    source = VocDataset.open(tiny_dataset)
    cocos = []
    for split in ("train", "val"):
        coco = Coco(tmp_path, split)
        coco.images_dir = tiny_dataset / "JPEGImages"
        names = enumerate(source.class_names, start=1)
        coco.content["categories"] = [{"id": 3 * i, "name": name} for i, name in names]
        for number, image_id in enumerate(split_ids(source, split), start=1):
            mask = read_mask(source.mask_path(image_id))
            coco.content["images"].append(
                {"id": number, "file_name": source.image_path(image_id).name}
            )
            for value in np.unique(mask[mask > 0]).tolist():
                coco.content["annotations"].append(
                    {
                        "id": len(coco.content["annotations"]),
                        "image_id": number,
                        "category_id": 3 if value == 255 else 3 * value,
                        "iscrowd": int(value == 255),
                        "segmentation": compressed(mask == value),
                    }
                )
        coco.write()
        cocos.append(coco)
    root = tmp_path / "root"
    assert convert(cocos, root, "--crowd=ignore") == 0
    for image_id, mask in masks_of(root).items():
        np.testing.assert_array_equal(mask, read_mask(source.mask_path(image_id)))
    trained = run(root, tmp_path / "out", "--steps=train_cam", "--saliency=none")
    assert trained.status == 0, trained.stderr
    assert (tmp_path / "out" / "weights" / "cam.pth").exists()


def test_sizes_that_the_file_does_not_tell_come_from_the_images(tmp_path: Path) -> None:
    coco = every_kind(tmp_path)
    edited(coco, lambda c: [image.pop(k) for image in c["images"] for k in ("height", "width")])
    assert convert(coco, tmp_path / "root") == 0
    assert {mask.shape for mask in masks_of(tmp_path / "root").values()} == {SIZE}
