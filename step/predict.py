"""What the trained networks say of whole images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from misc.training import loader_options
from net.deeplab_v2 import DeepLabV2, MultiScale
from step.context import Context
from step.networks import build_boundary_network
from voc12.dataloader import ImagePyramids


@torch.no_grad()
def with_boundaries(
    context: Context, images: ImagePyramids
) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    """Each of `images` without its pyramid, and its boundary probability (h,w) at stride 4.

    The boundary is float32 on the network's device, all else as the loader hands it over.
    """
    if not len(images):
        return
    runtime = context.runtime
    network = build_boundary_network(context, load=True).to(runtime.device).eval()
    loader = DataLoader(images, batch_size=None, **loader_options(runtime))
    for sample in loader:
        x_pair = sample.pop("levels")[0].to(runtime.device, non_blocking=True)
        with runtime.accelerator.autocast():
            boundary = network.boundary_of_pair(x_pair)
        yield sample, boundary.float()


def predict_boundaries(
    context: Context, ids: list[str]
) -> Iterator[tuple[str, np.ndarray, torch.Tensor]]:
    """Image id, image uint8 (H,W,3) and boundary probability (h,w) at stride 4 of each of `ids`."""
    for sample, boundary in with_boundaries(context, ImagePyramids(context.dataset, ids)):
        yield sample["image_id"], np.asarray(sample["image"]), boundary


@torch.no_grad()
def predict_classes(
    context: Context, network: DeepLabV2, ids: list[str]
) -> Iterator[tuple[str, np.ndarray, torch.Tensor]]:
    """Image id, image uint8 (H,W,3) and class logits (C,h,w) float32 of each of `ids`.

    The network comes back in eval mode, on the device.
    """
    config, runtime = context.config, context.runtime
    model = MultiScale(network, config.seg_test_scales).to(runtime.device).eval()
    images = ImagePyramids(context.dataset, ids)
    loader = DataLoader(images, batch_size=None, **loader_options(runtime))
    for sample in loader:
        x_pair = sample["levels"][0]
        x = x_pair if config.seg_test_flip else x_pair[:1]
        with runtime.accelerator.autocast():
            logits = model(x.to(runtime.device, non_blocking=True)).float()
        if config.seg_test_flip:
            logits = (logits[:1] + logits[1:].flip(-1)) / 2
        yield sample["image_id"], np.asarray(sample["image"]), logits[0]
