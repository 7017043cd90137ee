import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from misc.errors import UserError
from misc.images import read_image
from misc.saliency import write_saliency
from misc.saliency_network import Recipe, SaliencyNetwork, enlarge, prepare
from tests.helpers.onnx_models import Dim, brightness_model

PLAIN = Recipe(mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bright.onnx"


def network(
    path: Path, shape: Sequence[Dim], recipe: Recipe = PLAIN, **options: Any
) -> SaliencyNetwork:
    path.write_bytes(brightness_model(shape))
    return SaliencyNetwork(path, recipe, **options)


def gray(level: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_a_photograph_is_normalised_by_the_recipe() -> None:
    white = prepare(gray(255), Recipe(), (8, 6))
    assert white.shape == (3, 8, 6)
    assert white.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(white[:, 0, 0], expected, rtol=1e-6)
    own = Recipe(mean=(0.5, 0.25, 0), std=(1, 0.5, 2))
    np.testing.assert_allclose(prepare(gray(255), own, (8, 6))[:, 3, 3], [0.5, 1.5, 0.5])


def test_only_some_networks_divide_by_the_maximum() -> None:
    half = gray(51)
    half[:, :20] = 102
    assert prepare(half, PLAIN, (30, 40)).max() == pytest.approx(102 / 255)
    by_maximum = prepare(half, Recipe(mean=(0, 0, 0), std=(1, 1, 1), by_maximum=True), (30, 40))
    assert by_maximum.max() == 1
    assert by_maximum.min() == 0.5
    assert not prepare(gray(0), Recipe(mean=(0, 0, 0), by_maximum=True), (8, 8)).any()


def test_a_map_is_what_comes_out_at_the_photographs_size(path: Path) -> None:
    image = gray(0)
    image[:, 20:] = 255
    saliency = network(path, (1, 3, 15, 20)).predict(image)
    assert saliency.shape == (30, 40)
    assert saliency.dtype == np.float32
    assert saliency[15, 2] == pytest.approx(0.5)  # sigmoid(0): an empty scene stays as it is
    assert saliency[15, 37] == pytest.approx(1 / (1 + math.exp(-1)))
    between = saliency[15, 18:22]
    assert (np.diff(between) > 0).all()  # bilinear


def test_channels_last_is_read_from_the_file(path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    first = network(path, (1, 3, 15, 20)).predict(image)
    last = network(path, (1, 15, 20, 3))
    assert last.size == (15, 20)
    np.testing.assert_allclose(last.predict(image), first, atol=1e-6)


def test_a_size_that_the_file_leaves_open(path: Path) -> None:
    assert network(path, (1, 3, "height", "width")).size == (320, 320)
    assert network(path, (1, 3, "height", "width"), Recipe(size=64)).size == (64, 64)
    assert network(path, (1, 3, 64, 64), Recipe(size=64)).size == (64, 64)
    with pytest.raises(UserError, match="takes photographs of 20x15, not 64x64"):
        network(path, (1, 3, 15, 20), Recipe(size=64))


def test_several_at_once_where_the_file_allows_it(path: Path) -> None:
    several = network(path, ("number", 3, 15, 20))
    assert several.batch == 1  # on a CPU there is nothing to gain
    images = [gray(0), gray(100), gray(200)]
    prepared = np.stack([prepare(image, PLAIN, several.size) for image in images])
    maps = several.maps(prepared)
    assert maps.shape == (3, 15, 20)
    for image, saliency in zip(images, maps, strict=True):
        np.testing.assert_array_equal(enlarge(saliency, (30, 40)), several.predict(image))


def test_the_gpu_is_asked_for_where_onnxruntime_has_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    session = onnxruntime.InferenceSession

    def note(content: bytes, options: Any, providers: list[Any]) -> Any:
        asked.append(providers)
        return session(content, options, ["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    cuda, shape = torch.device("cuda", 1), (1, 3, 15, 20)
    assert network(path, shape, device=cuda).device == "CPU"
    known = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    network(path, shape, device=cuda)
    network(path, shape, device=torch.device("cpu"))
    network(path, shape)
    on_gpu = "CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0}
    on_cpu = ["CPUExecutionProvider"]
    assert asked == [on_cpu, [on_gpu, "CPUExecutionProvider"], on_cpu, on_cpu]


def test_csnets_maps_are_those_that_came_with_the_photographs(
    shared_data: Path, tmp_path: Path
) -> None:
    root = shared_data / "voc12_animals"
    csnet = SaliencyNetwork(shared_data / "weights" / "csnet_l_x2.onnx", Recipe(), threads=1)
    assert csnet.size == (224, 224)
    paths = sorted((root / "JPEGImages").glob("*.jpg"))[::100]
    assert len(paths) == 7
    for path in paths:
        made = tmp_path / f"{path.stem}.png"
        write_saliency(made, csnet.predict(read_image(path)))
        with Image.open(made) as ours, Image.open(root / "Sal" / made.name) as theirs:
            difference = np.asarray(ours, np.int64) - np.asarray(theirs, np.int64)
        assert np.abs(difference).max() <= 1
