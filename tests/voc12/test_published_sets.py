from pathlib import Path

import pytest

from voc12.classes import VOC_CLASSES
from voc12.published_sets import COCO_MARKS, TABLES, assets, find_published, published

COCO_NAMES = (*sorted(COCO_MARKS), *(f"class {i}" for i in range(80 - len(COCO_MARKS))))
VOC, COCO = published(VOC_CLASSES), published(COCO_NAMES)
# Scores of these stand in the published table, but the release has no such activation maps.
SCORED_BUT_NOT_RELEASED = ("COCO_EPS_DeepUSPS", "COCO_L2G_DeepUSPS")


def test_all_assets_and_their_paths() -> None:
    found = assets()
    kinds = [asset.kind for asset in found]
    assert kinds == ["activation"] * 87 + ["saliency"] * 43
    assert len({asset.name for asset in found}) == 130
    for asset in found:
        folder = "act_maps" if asset.kind == "activation" else "sal_maps"
        assert asset.path == f"releases/download/{folder}/{asset.name}.zip"


def test_every_published_score_has_its_sets() -> None:
    assert (len(VOC), len(COCO)) == (22 * 7, 14 * 4)
    own = tuple(f"class {i}" for i in range(80))
    assert [published(names) for names in (own[:6], own[:20], own)] == [(), (), ()]
    names = {asset.name for asset in assets()}
    for prefixes, scores in ((("VOC2012_", "VOC2012_"), VOC), (("COCO_", "COCO2014_"), COCO)):
        for score in scores:
            assert prefixes[1] + score.saliency in names
            inside = f"_{score.saliency}" if score.cam in ("EPS", "L2G") else ""
            activation = f"{prefixes[0]}{score.cam}{inside}"
            assert (activation in names) != (activation in SCORED_BUT_NOT_RELEASED)
            assert 0.2 < score.miou < 0.8
            assert 0 <= score.std < 0.02


@pytest.mark.parametrize(
    ("cam", "saliency", "miou"),
    [
        ("CAM", "DSS_MSRA", 63.2),
        ("voc2012_oaa", "VOC2012_VST_COCO20", 74.6),
        ("EDAM", "MOVE", 69.3),
        ("VOC2012_EPS_PoolNet_MSRA_HKU", "none", 71.9),
        ("l2g_deepusps", "none", 70.4),
        ("EPS", "PoolNet_DUTS", None),
        ("EPS_PoolNet_DUTS", "PoolNet_DUTS", None),
        ("CAM", "none", None),
        ("own", "MOVE", None),
    ],
)
def test_a_users_sets_find_their_published_score(
    cam: str, saliency: str, miou: float | None
) -> None:
    score = find_published(cam, saliency, VOC)
    assert (None if score is None else round(100 * score.miou, 1)) == miou


def test_coco_has_its_own() -> None:
    score = find_published("COCO_L2G_VST_DUTS", "none", COCO)
    assert score is not None
    assert (score.miou, score.std) == (pytest.approx(0.451), pytest.approx(0))


def test_the_tables_are_the_published_ones(shared_data: Path) -> None:
    for path in sorted(TABLES.glob("*.csv")):
        assert path.read_bytes() == (shared_data / "tables" / path.name).read_bytes()
