from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from misc.transforms import image_pyramid
from misc.untrusted import safe_load
from net.backbone import build_backbone
from net.cam import CamClassifier, attention_pool, combine_scales
from tests.helpers.paths import GOLDEN
from tests.net.recordings import NETWORK_TOLERANCES, relative_error

# Each class is divided by its own maximum, which magnifies what the network's scale hides: the
# recording is itself 5.5e-6 away from the same computed in float64, and ours 2.7e-6.
NORMALISED_TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def recorded_cam(fill_by_name: Callable[[nn.Module], None]) -> CamClassifier:
    network = CamClassifier(build_backbone("resnet50", fixed_batch_norm=True), 20)
    fill_by_name(network)
    return network


def tiny_cam(**settings: int) -> CamClassifier:
    return CamClassifier(build_backbone("resnet18", fixed_batch_norm=True), 3, **settings)


@pytest.mark.parametrize("size", ["64x64", "93x125", "97x66"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", NETWORK_TOLERANCES, ids=str)
def test_scores_and_maps_are_the_recorded_ones(
    recorded_cam: CamClassifier,
    recorded_networks: dict[str, np.ndarray],
    size: str,
    training: bool,
    dtype: torch.dtype,
) -> None:
    network = deepcopy(recorded_cam).to(dtype).train(training)
    x = torch.from_numpy(recorded_networks[f"{size}/input"]).to(dtype)
    with torch.no_grad():
        scores = network(x)
        maps = network.cams_of_pair(torch.stack([x[0], x[0].flip(-1)]))
    at_most = NETWORK_TOLERANCES[dtype]
    assert relative_error(scores, recorded_networks[f"{size}/cam_forward"]) <= at_most
    assert relative_error(maps, recorded_networks[f"{size}/cam_infer"]) <= at_most


def test_parameters_are_the_references(
    recorded_cam: CamClassifier, reference_state: Callable[[str], dict]
) -> None:
    """Same names, shapes and order; layer1 and layer2, which it detaches, are really frozen."""
    reference = reference_state("cam")
    ours = [
        [name.replace("backbone.", "resnet50.", 1), list(parameter.shape), parameter.requires_grad]
        for name, parameter in recorded_cam.named_parameters()
    ]
    detached = ("resnet50.layer1.", "resnet50.layer2.")
    assert ours == [
        [name, shape, requires_grad and not name.startswith(detached)]
        for name, shape, requires_grad in reference["named_parameters"]
    ]
    groups = [[list(p.shape) for p in group] for group in recorded_cam.parameter_groups()]
    assert groups == reference["trainable_parameters"]


def test_only_the_later_stages_and_the_classifier_get_gradients() -> None:
    network = tiny_cam()
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    learning = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None}
    assert learning == {"layer3", "layer4", "weight"}


def test_from_scratch_everything_learns() -> None:
    network = tiny_cam(train_from=0)
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_attention_pooling_is_a_mean_that_leans_to_high_values() -> None:
    flat = torch.full((1, 1, 2, 3), 7.0)
    assert attention_pool(flat).item() == pytest.approx(7.0)
    features = torch.tensor([[[[0.0, 1000.0]]]], requires_grad=True)
    pooled = attention_pool(features)
    # softmax(0, 1) = (0.2689, 0.7311): 1000 * 0.7311, and no gradient through the weights
    assert pooled.item() == pytest.approx(731.0586, abs=1e-3)
    pooled.sum().backward()
    assert features.grad is not None
    assert features.grad.flatten().tolist() == pytest.approx([0.2689414, 0.7310586], abs=1e-6)


@pytest.mark.parametrize("image_id", ["2007_000001", "2007_000010"])
def test_multi_scale_cams_are_the_recorded_ones(recorded_cam: CamClassifier, image_id: str) -> None:
    if image_id == "2007_000001":
        recorded = safe_load(GOLDEN / "g5_make_cam" / f"{image_id}.npy")
        keys, cam = recorded["keys"].numpy(), recorded["cam"].numpy()
    else:
        recorded = np.load(GOLDEN / "g5_make_cam" / f"{image_id}.npz")
        keys, cam = recorded["keys"], recorded["cam"]
    with np.load(GOLDEN / "decoded_voc.npz") as decoded:
        image = decoded[f"{image_id}/img"]
    recorded_cam.eval()
    with torch.no_grad():
        maps = [
            recorded_cam.cams_of_pair(torch.from_numpy(x))
            for x in image_pyramid(image, (1.0, 0.5, 1.5, 2.0))
        ]
    ours_cam, ours_high_res = combine_scales(maps, image.shape[:2], keys + 1)
    assert relative_error(ours_cam, cam) <= NORMALISED_TOLERANCE
    assert relative_error(ours_high_res, recorded["high_res"]) <= NORMALISED_TOLERANCE


def test_classes_are_combined_alone_and_in_the_order_asked_for() -> None:
    maps = torch.zeros(3, 2, 2)
    maps[0], maps[2] = 4.0, 2.0
    cam, high_res = combine_scales([maps, maps], (5, 9), [1, 2, 3])
    assert cam.shape == (3, 2, 3)
    assert high_res.shape == (3, 5, 9)
    assert cam.amax(dim=(1, 2)).tolist() == pytest.approx([1.0, 0.0, 1.0], abs=1e-4)
    only_last, _ = combine_scales([maps, maps], (5, 9), [3])
    assert torch.equal(only_last, cam[2:])


def test_an_image_without_classes_has_no_maps() -> None:
    cam, high_res = combine_scales([torch.ones(3, 2, 2)], (17, 20), [])
    assert cam.shape == (0, 5, 5)
    assert high_res.shape == (0, 17, 20)


def test_half_precision_maps_are_combined_in_float32() -> None:
    maps = torch.rand(2, 3, 3)
    cam, _ = combine_scales([maps.bfloat16()], (12, 12), [1, 2])
    expected, _ = combine_scales([maps.bfloat16().float()], (12, 12), [1, 2])
    assert cam.dtype == torch.float32
    assert torch.equal(cam, expected)


def test_both_maps_of_a_pair_are_added_in_float32_under_autocast() -> None:
    network = tiny_cam().eval()
    x_pair = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        maps = network.activation_maps(x_pair)
        found = network.cams_of_pair(x_pair)
    assert maps.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert torch.equal(found, maps[0].float() + maps[1].float().flip(-1))
    assert not torch.equal(found, found.bfloat16().float())


def test_full_size_maps_are_stretched_over_a_whole_multiple_of_16() -> None:
    """20 x 25 pixels are cut from 32 x 32, where a multiple of 8 would be 24 x 32."""
    maps = torch.rand(2, 2, 3)
    stretched = functional.interpolate(maps[None], (32, 32), mode="bilinear", align_corners=False)
    cut = stretched[0, :, :20, :25]
    _, high_res = combine_scales([maps], (20, 25), [1, 2])
    expected = cut / (cut.amax(dim=(1, 2), keepdim=True) + 1e-5)
    torch.testing.assert_close(high_res, expected, rtol=0, atol=1e-6)
