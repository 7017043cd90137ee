"""From a folder of photographs to a dataset, from the command line."""

import os
from pathlib import Path

import pytest
from PIL import Image

from voc12.check import check_dataset
from voc12.files import VocDataset
from voc12.image_labels import read_tags
from voc12.init import draw_val, main
from voc12.lists import split_ids


def add(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        kind = "PNG" if name.lower().endswith("png") else "JPEG"
        Image.new("RGB", (12, 8), (len(name), 90, 40)).save(folder / name, kind)


def contents(root: Path) -> dict[str, str]:
    files = [p for p in root.rglob("*") if p.suffix in (".txt", ".csv")]
    return {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in files}


def members(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    return capsys.readouterr().err


def test_photographs_in_their_place_get_files_to_fill_in(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(home / "mydata" / "JPEGImages", "photo 1.jpg", "b.png", "süß, a.jpeg")
    assert main(["mydata"]) == 0
    assert contents(home / "mydata") == {
        "classes.txt": "",
        "tags.csv": 'id,class\nb,?\nphoto 1,?\n"süß, a",?\n',
        "ImageSets/Segmentation/train.txt": "b\nphoto 1\nsüß, a\n",
    }
    said = capsys.readouterr().err
    for line in (
        "mydata: 3 photographs\n",
        "wrote tags.csv: 3 lines, with ? for classes\n",
        "write the names of the classes into classes.txt, one per line",
        "in tags.csv, replace each ? by the image's classes",
        "put saliency maps into Sal",
    ):
        assert line in said
    assert said.endswith(" -m voc12.check mydata\n")
    assert members(home / "mydata" / "JPEGImages") == {"photo 1.jpg", "b.png", "süß, a.jpeg"}


def test_a_dataset_that_is_not_filled_in_is_refused_and_one_that_is_works(home: Path) -> None:
    add(home / "mydata" / "JPEGImages", "a.jpg", "b.jpg", "c.jpg")
    assert main(["mydata", "--classes", "mug,tea spoon"]) == 0
    (problem,) = check_dataset(Path("mydata")).problems
    assert "mydata/tags.csv has no tags for 3 images (first: a)" in problem
    assert "replace ? where it stands" in problem
    tags = home / "mydata" / "tags.csv"
    tags.write_text("id,class\na,mug,tea spoon\nb,\nc,?\n")
    assert "no tags for 1 image (c)" in check_dataset(Path("mydata")).problems[0]
    tags.write_text("id,class\na,mug,tea spoon\nb,\nc\n")
    assert check_dataset(Path("mydata")).problems == []


def test_photographs_in_the_folder_itself_are_linked_and_stay(home: Path) -> None:
    add(home / "mydata", "a.jpg", "b.JPEG")
    assert main(["mydata"]) == 0
    assert members(home / "mydata" / "JPEGImages") == {"a.jpg", "b.jpeg"}
    assert (home / "mydata" / "b.JPEG").is_file()
    os.rename("mydata", "moved")
    with Image.open("moved/JPEGImages/b.jpeg") as picture:
        assert picture.size == (12, 8)


def test_photographs_elsewhere_are_linked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(home / "photos", "a.jpg", "b.png", ".hidden.jpg")
    (home / "photos" / "c.HEIC").touch()
    (home / "photos" / "notes.txt").touch()
    assert main(["mydata", "--images", "photos"]) == 0
    assert members(home / "mydata" / "JPEGImages") == {"a.jpg", "b.png"}
    assert members(home / "photos") == {"a.jpg", "b.png", ".hidden.jpg", "c.HEIC", "notes.txt"}
    said = capsys.readouterr().err
    assert "linked 2 of them into JPEGImages: they stay where they are" in said
    assert "left out 1 image (c.HEIC), neither JPEG nor PNG" in said


def test_folders_of_classes_are_the_tags(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(home / "photos" / "tea spoon", "1.jpg", "2.jpg")
    add(home / "photos" / "mug", "1.jpg", "mug_7.PNG")
    assert main(["mydata", "--images", "photos"]) == 0
    assert contents(home / "mydata") == {
        "classes.txt": "mug\ntea spoon\n",
        "tags.csv": "id,class\nmug_1,mug\nmug_7,mug\n"
        "tea spoon_1,tea spoon\ntea spoon_2,tea spoon\n",
        "ImageSets/Segmentation/train.txt": "mug_1\nmug_7\ntea spoon_1\ntea spoon_2\n",
    }
    assert members(home / "mydata" / "JPEGImages") == {
        "mug_1.jpg", "mug_7.png", "tea spoon_1.jpg", "tea spoon_2.jpg",
    }  # fmt: skip
    assert "with the class of its folder: add others that it shows" in capsys.readouterr().err
    assert check_dataset(Path("mydata")).problems == []


def test_classes_that_are_given_keep_their_order(home: Path) -> None:
    add(home / "photos" / "mug", "1.jpg")
    add(home / "photos" / "fork", "1.jpg")
    assert main(["mydata", "--images=photos", "--classes=mug, fork,whisk"]) == 0
    assert (home / "mydata" / "classes.txt").read_text() == "mug\nfork\nwhisk\n"


def test_val_gets_a_share_that_the_seed_draws(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(home / "photos", *(f"{k}.jpg" for k in range(10)))
    for name, seed in (("one", "3"), ("same", "3"), ("other", "4")):
        assert main([name, "--images=photos", "--val_share=0.3", "--seed", seed]) == 0
    assert "val.txt: 3 images, drawn with --seed 4" in capsys.readouterr().err
    splits = {}
    for name in ("one", "same", "other"):
        lists = home / name / "ImageSets" / "Segmentation"
        splits[name] = {k: (lists / f"{k}.txt").read_text().split() for k in ("train", "val")}
    assert splits["one"] == splits["same"] != splits["other"]
    for split in splits.values():
        assert sorted(split["train"] + split["val"]) == [str(k) for k in range(10)]
        assert len(split["val"]) == 3


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.99, 3), (0.5, 2)])
def test_no_list_is_empty(share: float, count: int) -> None:
    assert len(draw_val(["a", "b", "c", "d"], share, 0)) == count


def test_what_is_there_is_kept_byte_for_byte(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = home / "mydata"
    add(root / "JPEGImages", "a.jpg", "b.jpg")
    assert main(["mydata", "--classes=mug"]) == 0
    (root / "tags.csv").write_text("id,class\na,mug\nb\n")
    before = contents(root)
    add(home / "more", "c.jpg")
    capsys.readouterr()
    assert main(["mydata", "--images=more"]) == 0
    said = capsys.readouterr().err
    for name in ("classes.txt", "tags.csv", "ImageSets/Segmentation/train.txt"):
        assert f"kept {name} as it is\n" in said
    assert contents(root) == before
    assert members(root / "JPEGImages") == {"a.jpg", "b.jpg", "c.jpg"}
    assert "1 in no list" in check_dataset(root).rows["photographs"]
    assert main(["mydata"]) == 0  # the link of c is known


def test_a_list_val_that_is_there_stays_out_of_train(home: Path) -> None:
    add(home / "mydata" / "JPEGImages", "a.jpg", "b.jpg", "c.jpg")
    lists = home / "mydata" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("b\n")
    assert main(["mydata"]) == 0
    assert (lists / "train.txt").read_text() == "a\nc\n"
    assert (lists / "val.txt").read_text() == "b\n"


def test_tags_in_xml_files_need_no_table(home: Path) -> None:
    add(home / "mydata" / "JPEGImages", "a.jpg")
    (home / "mydata" / "Annotations").mkdir()
    (home / "mydata" / "Annotations" / "a.xml").write_text("<annotation/>")
    assert main(["mydata", "--classes=mug"]) == 0
    assert not (home / "mydata" / "tags.csv").exists()


def test_ids_that_look_like_tagged_lines_are_read_as_they_are(home: Path) -> None:
    add(home / "mydata" / "JPEGImages", "mug 1.jpg", "spoon 2.png", "mug.jpg", "spoon.jpg")
    lists = home / "mydata" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("mug\nspoon\n")
    assert main(["mydata", "--classes=mug"]) == 0
    dataset = VocDataset.open(home / "mydata")
    assert split_ids(dataset, "train") == ["mug 1", "spoon 2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none is not a folder. Pass --images DIR"),
        (["empty"], "empty holds no photographs. Put them into empty/JPEGImages, or name their"),
        (["new", "--images", "none"], "--images none is not a folder"),
        (["new", "--images", "empty"], "empty holds no photographs (.jpeg, .jpg, .png), nor do"),
        (["new", "--images", "one"], "Pass --images one/photos, or --classes photos if that is"),
        (["one"], "name their folder with --images, such as one/photos"),
        (["two"], "name their folder with --images, such as two"),
        (["new", "--images", "mixed"], "mixed holds photographs, and a folder of photographs mug"),
        (["new", "--images", "two", "--classes", "mug"], "--classes does not name fork"),
        (["new", "--images", "twins"], "twins/a.jpg and twins/a.png would have the same id"),
        (["new", "--images", "clash"], "clash/mug/1.jpg and clash/mug/mug_1.jpg would have the"),
        (["new", "--images", "crf"], "'a_crf' and 'a' would have the same name"),
        (["new", "--images", "spaces"], "the name has spaces at an end. Rename it"),
        (["new", "--images", "good", "--classes", "a,a"], "--classes names a twice"),
        (["new", "--images", "good", "--classes", "a,,b"], "'' cannot be the name of a class"),
        (["new", "--images", "good", "--classes", "?"], "'?' cannot be the name of a class"),
        (["new", "--images", "good", "--val_share", "1"], "--val_share 1: 2 photographs cannot"),
        (["new", "--images", "good/b.jpg"], "--images good/b.jpg is not a folder"),
        (["new", "--images", "good", "--classes", "a,background"], "background is no class. Leave"),
        (["new", "--images", "ground"], "background is no class. Leave it out"),
        (["new", "--images", "bytes"], "'caf\\udce9' is not UTF-8. Rename the file"),
        (["new", "--images", "long"], "aaa... is too long for the names of files"),
        (["upper"], "no step looks for the ending .PNG. Rename it to a.png"),
    ],
)
def test_what_is_no_dataset_is_refused_before_anything_is_written(
    home: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "empty").mkdir()
    add(home / "good", "a.jpg", "b.jpg")
    add(home / "one" / "photos", "a.jpg")
    add(home / "two" / "mug", "a.jpg")
    add(home / "two" / "fork", "b.jpg")
    add(home / "mixed", "a.jpg")
    add(home / "mixed" / "mug", "b.jpg")
    add(home / "twins", "a.jpg", "a.png")
    add(home / "clash" / "mug", "1.jpg", "mug_1.jpg")
    add(home / "clash" / "fork", "1.jpg")
    add(home / "crf", "a.jpg", "a_crf.jpg")
    add(home / "spaces", "a .jpg")
    add(home / "ground" / "background", "a.jpg")
    add(home / "ground" / "mug", "b.jpg")
    add(home / "bytes", os.fsdecode(b"caf\xe9.jpg"))
    add(home / "long", f"{'a' * 240}.jpg")
    add(home / "upper" / "JPEGImages", "a.PNG")
    before = sorted(home.rglob("*"))
    assert message in refused(capsys, *words)
    assert sorted(home.rglob("*")) == before


def test_what_is_there_is_not_contradicted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(home / "mydata" / "JPEGImages", "a.jpg", "b.jpg")
    add(home / "other", "a.jpg")
    assert main(["mydata", "--classes=mug"]) == 0
    said = refused(capsys, "mydata", "--classes=mug,fork")
    assert "classes.txt exists and holds other names" in said
    said = refused(capsys, "mydata", "--val_share=0.5")
    assert "train.txt exists: leave out --val_share, or move the list away" in said
    said = refused(capsys, "mydata", "--images=other")
    assert "mydata/JPEGImages/a.jpg and other/a.jpg would have the same id" in said


def test_a_dataset_made_inside_the_folder_of_photographs_is_not_taken_for_them(home: Path) -> None:
    add(home / "photos" / "mug", "a.jpg")
    add(home / "photos" / "fork", "b.jpg")
    for _ in range(2):
        assert main(["photos", "--images=photos"]) == 0
    assert members(home / "photos" / "JPEGImages") == {"mug_a.jpg", "fork_b.jpg"}
    dataset = VocDataset.open(home / "photos")
    tags = read_tags(dataset, ["fork_b", "mug_a"], "csv")
    assert {i: row.tolist() for i, row in tags.items()} == {"fork_b": [1, 0], "mug_a": [0, 1]}
