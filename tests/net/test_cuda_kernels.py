"""Every network runs on a fake GPU in each precision, by operators that CUDA has kernels for.

The walk and the CRF depend on values: what they need is looked at on the pretended device.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from misc.config import BACKBONES
from misc.training import PolySgd
from net.backbone import build_backbone
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier
from net.deeplab_v2 import DeepLabV2, MultiScale
from step.train_seg import SEG_BACKBONES
from tests.helpers.cuda_kernels import (
    Operators,
    fake_card,
    move_to_card,
    needs_cuda_build,
    run_backward,
)

CLASSES = 20
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
QUICK = "squeezenet1_0"

pytestmark = [
    needs_cuda_build,
    # torch's own remark on `FoldedBackbone`, which asks where weights lie.
    pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor"),
]


def of_backbones(names: tuple[str, ...]) -> pytest.MarkDecorator:
    marks = [pytest.param(name, marks=[pytest.mark.slow] * (name != QUICK)) for name in names]
    return pytest.mark.parametrize("backbone", marks)


def on_card(
    build: Callable[[], nn.Module],
    learn: Callable[[nn.Module, Tensor], list[Tensor]],
    predict: Callable[[nn.Module, Tensor], Tensor],
) -> None:
    """Prediction, forward and backward pass and update of a network in each precision."""
    with torch.device("meta"):
        network = build()
    with fake_card():
        move_to_card(network)
        x = torch.empty(2, 3, 65, 64, device="cuda")
        for name, dtype in PRECISIONS.items():
            with Operators() as used, torch.autocast("cuda", dtype, enabled=name != "fp32"):
                network.train()
                outputs = learn(network, x)
                with torch.no_grad():
                    predicted = predict(network.eval(), x)
            assert (outputs[0].dtype, outputs[0].device.type) == (dtype, "cuda")
            assert predicted.device.type == "cuda"
            with used:
                learning = run_backward(torch.stack([each.float().sum() for each in outputs]).sum())
            assert learning == sum(each.requires_grad for each in network.parameters()) > 0
            with used:
                update(network)
            assert used.without_kernel == []
            assert {
                "aten::convolution", "aten::convolution_backward", "aten::_foreach_add_.List",
            } <= used.names  # fmt: skip


def update(network: nn.Module) -> None:
    """Update all weights at once, as torch does on a GPU unless tensors are fake."""
    optimizer = PolySgd(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, max_step=2)
    for group in optimizer.param_groups:
        group["foreach"] = True
    optimizer.step()


def learn_tags(*, backbone: str, from_scratch: bool) -> None:
    on_card(
        lambda: CamClassifier(
            build_backbone(backbone, fixed_batch_norm=not from_scratch),
            CLASSES,
            train_from=0 if from_scratch else 3,
        ),
        lambda network, x: [network(x)],
        lambda network, x: network.cams_of_pair(x),  # type: ignore[operator]
    )


@of_backbones(BACKBONES)
def test_the_classifier_runs_on_a_gpu(backbone: str) -> None:
    learn_tags(backbone=backbone, from_scratch=False)


@pytest.mark.slow
def test_from_scratch_with_batch_norms_that_learn() -> None:
    learn_tags(backbone="resnet18", from_scratch=True)


@of_backbones(BACKBONES)
def test_the_boundary_network_runs_on_a_gpu(backbone: str) -> None:
    on_card(
        lambda: BoundaryNetwork(build_backbone(backbone, fixed_batch_norm=True)),
        lambda network, x: [network(x)],
        lambda network, x: network.boundary_of_pair(x),  # type: ignore[operator]
    )


@of_backbones(SEG_BACKBONES)
def test_deeplab_runs_on_a_gpu(backbone: str) -> None:
    on_card(
        lambda: MultiScale(
            DeepLabV2(build_backbone(backbone, fixed_batch_norm=True), CLASSES + 1), (1.0, 0.5)
        ),
        lambda network, x: network(x),
        lambda network, x: network(x),
    )


def test_an_operator_that_only_the_cpu_has_is_found() -> None:
    with Operators() as used:
        torch.histogram(torch.ones(4), bins=2)
    assert used.without_kernel == ["aten::histogram.bin_ct"]
