import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.codes import VOID
from misc.errors import UserError
from voc12.classes import VOC_CLASSES
from voc12.drawn import dataset as demo
from voc12.drawn import draw_dataset
from voc12.drawn.dataset import imperfect_saliency
from voc12.drawn.figures import FIGURES
from voc12.drawn.scene import Pose, draw_scene

NUM_TRAIN, NUM_VAL, SIZE = 12, 4, 120


def draw(root: Path, *, num_train: int = NUM_TRAIN, seed: int = 3) -> Path:
    draw_dataset(root, num_train=num_train, num_val=NUM_VAL, size=SIZE, seed=seed)
    return root


def contents(root: Path) -> dict[str, bytes]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def ids_of(root: Path, split: str) -> list[str]:
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    return path.read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("demo") / "voc")


def test_lists_name_every_image_once(drawn: Path) -> None:
    train, val = ids_of(drawn, "train"), ids_of(drawn, "val")
    assert (len(train), len(val)) == (NUM_TRAIN, NUM_VAL)
    assert train[0] == "2007_000001"
    assert ids_of(drawn, "train_aug") == train
    names = [path.stem for path in sorted((drawn / "JPEGImages").iterdir())]
    assert names == train + val


def test_image_mask_saliency_and_tags_of_an_image_agree(drawn: Path) -> None:
    objects = 0
    for image_id in ids_of(drawn, "train") + ids_of(drawn, "val"):
        image = read(drawn / "JPEGImages" / f"{image_id}.jpg")
        with Image.open(drawn / "SegmentationClass" / f"{image_id}.png") as png:
            assert png.mode == "P"
            mask = np.array(png)
        saliency = read(drawn / "Sal" / f"{image_id}.png")
        assert image.dtype == np.uint8
        assert image.shape == (*mask.shape, 3)
        assert saliency.shape == mask.shape
        assert 0.8 * SIZE - 1 <= max(mask.shape) <= SIZE
        top = ElementTree.parse(drawn / "Annotations" / f"{image_id}.xml").getroot()
        size = [int(str(top.findtext(f"size/{key}"))) for key in ("height", "width", "depth")]
        assert size == [*mask.shape, 3]
        names = [str(name.text) for name in top.iter("name")]
        assert set(np.unique(mask)) - {0, VOID} == {VOC_CLASSES.index(name) + 1 for name in names}
        objects += len(names)
        for box in top.iter("bndbox"):
            xmin, ymin, xmax, ymax = (int(str(side.text)) for side in box)
            assert 1 <= xmin < xmax <= mask.shape[1]
            assert 1 <= ymin < ymax <= mask.shape[0]
    assert objects > NUM_TRAIN + NUM_VAL, "some images show two objects"


def test_masks_have_a_thin_border_of_void(drawn: Path) -> None:
    for path in (drawn / "SegmentationClass").iterdir():
        mask = read(path)
        assert 0.01 < (mask == VOID).mean() < 0.15
        down = mask[:-1] != mask[1:]
        touching = down & (mask[:-1] != VOID) & (mask[1:] != VOID)
        assert not touching.any(), "a class never touches another or the ground without a border"


def test_saliency_is_soft_imperfect_and_exactly_zero_on_most_of_the_ground(drawn: Path) -> None:
    overlaps, zeros = [], []
    for path in (drawn / "Sal").iterdir():
        saliency, mask = read(path), read(drawn / "SegmentationClass" / path.name)
        salient, truth = (saliency >= 128)[mask != VOID], (mask > 0)[mask != VOID]
        overlaps.append((salient & truth).sum() / (salient | truth).sum())
        zeros.append((saliency[mask == 0] == 0).mean())
        assert len(np.unique(saliency)) > 20
    assert 0.75 < np.mean(overlaps) < 0.99
    assert min(overlaps) < 0.95
    assert np.mean(zeros) > 0.8


def test_the_seed_decides_every_byte(drawn: Path, tmp_path: Path) -> None:
    assert contents(draw(tmp_path / "again")) == contents(drawn)
    other = contents(draw(tmp_path / "other", seed=4))
    name = "JPEGImages/2007_000001.jpg"
    assert other[name] != contents(drawn)[name]


def test_an_image_does_not_change_with_the_number_of_images(drawn: Path, tmp_path: Path) -> None:
    fewer = contents(draw(tmp_path / "fewer", num_train=5))
    whole = contents(drawn)
    pictures = [name for name in fewer if name.startswith(("JPEGImages", "Sal", "Segm", "Ann"))]
    assert len(pictures) == 4 * (5 + NUM_VAL)
    assert all(fewer[name] == whole[name] for name in pictures)


def test_what_was_drawn_alike_is_kept_and_anything_else_refused(tmp_path: Path) -> None:
    root = draw(tmp_path / "voc", num_train=1)
    image = root / "JPEGImages" / "2007_000001.jpg"
    before = image.stat().st_mtime_ns
    draw(root, num_train=1)
    assert image.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="is not the drawn dataset asked for"):
        draw(root, num_train=2)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="Delete it"):
        draw(tmp_path / "mine")
    with pytest.raises(UserError, match="at least one training image"):
        draw(tmp_path / "none", num_train=0)


def test_a_stopped_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(demo, "_write_annotation", no_space)
    with pytest.raises(OSError, match="No space left"):
        draw(tmp_path / "voc")
    assert list(tmp_path.iterdir()) == []
    # A kill leaves the partial folder behind; the next drawing starts it afresh.
    monkeypatch.undo()
    (tmp_path / ".voc.partial" / "JPEGImages").mkdir(parents=True)
    draw(tmp_path / "voc", num_train=1)
    assert [path.name for path in tmp_path.iterdir()] == ["voc"]


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_the_distinctive_part_is_a_minor_share_of_its_figure(name: str) -> None:
    figure, pose = FIGURES[name], Pose(50 * np.eye(2), np.array([60.0, 60.0]))
    part = pose.coverage(figure.part, 120, 120) > 0.5
    whole = pose.coverage(figure.body + figure.part, 120, 120) > 0.5
    assert 0.05 < part.sum() / whole.sum() < 0.45
    assert not whole[[0, -1]].any(), "the figure stays in its box"


def test_a_nearer_figure_hides_the_one_behind_it() -> None:
    for seed in range(5):
        scene = draw_scene(np.random.default_rng(seed), 90, 100, ("horse", "cat"))
        first, second = (thing.visible for thing in scene.objects)
        assert not (first & second).any()
        assert first.any()
        mask = scene.mask({"horse": 1, "cat": 2})
        assert set(np.unique(mask)) == {0, 1, 2, VOID}


def test_saliency_of_an_empty_picture_is_at_most_a_blob() -> None:
    for seed in range(8):
        saliency = imperfect_saliency(np.random.default_rng(seed), np.zeros((60, 80), bool))
        assert (saliency == 0).mean() > 0.8
