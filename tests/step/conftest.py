"""What tests of steps share: a run of the segmentation network's steps, VOC 2012 by its names."""

from pathlib import Path

import pytest

from tests.helpers.given import write_given
from tests.helpers.pascal import unpack_voc
from tests.helpers.segmentation import run_seg
from tests.helpers.tiny import Run


@pytest.fixture(scope="session")
def segmented(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two seeds trained on the exact masks, val segmented and scored; only look at it."""
    flags = ["--seg_seeds=0,1", "--eval_classes=cat,cow"]
    done = run_seg(tiny_dataset, tmp_path_factory.mktemp("segmented") / "out", *flags)
    assert done.status == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def given(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of every step, put there by somebody; only look at them."""
    return write_given(tiny_dataset, tmp_path_factory.mktemp("given") / "all")


@pytest.fixture(scope="session")
def pascal_voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC 2012 as PASCAL's archive unpacks, with all its ids; only look at it."""
    root = tmp_path_factory.mktemp("VOCdevkit") / "VOC2012"
    unpack_voc(root)
    return root
