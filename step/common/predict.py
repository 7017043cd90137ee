"""What the trained networks say of whole images."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from misc.errors import UserError
from misc.runtime import read_ahead
from misc.transforms import image_pyramid
from net.deeplab_v2 import DeepLabV2, MultiScale
from step.common.networks import trained_boundary_network
from voc12.dataloader import ImagePyramids

if TYPE_CHECKING:
    from step.graph import Weights
    from step.run import Run


def not_finite(run: "Run", network: str, image_id: str, weights: "Weights") -> UserError:
    """What to say of a trained network whose output for an image is NaN or infinite."""
    return UserError(
        f"The output of {network} for {image_id} is not finite: it overflows with the weights in "
        f"{weights.path(run)}. {weights.remedy} If you passed --precision fp16, try bf16 or fp32."
    )


@torch.no_grad()
def with_boundaries(
    run: "Run", backbone: str, images: ImagePyramids
) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    """Each of `images` without its pyramid, and its boundary probability (h,w) at stride 4.

    The boundary is float32 on the network's device, all else as the loader hands it over.
    """
    if not len(images):
        return
    runtime = run.runtime
    network = runtime.place(trained_boundary_network(run, backbone)).eval()
    for sample in read_ahead(runtime, images, batch_size=None):
        x_pair = sample.pop("levels")[0].to(runtime.device, non_blocking=True)
        with runtime.accelerator.autocast():
            boundary = network.boundary_of_pair(x_pair)
        yield sample, boundary.float()


def boundary_predictor(run: "Run", backbone: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function from a photograph (H,W,3) to its boundary probability (h,w) at stride 4."""
    runtime = run.runtime
    network = runtime.place(trained_boundary_network(run, backbone)).eval()

    @torch.no_grad()
    def predict(image: np.ndarray) -> np.ndarray:
        x_pair = torch.from_numpy(image_pyramid(image, (1.0,))[0]).to(runtime.device)
        with runtime.accelerator.autocast():
            return network.boundary_of_pair(x_pair).float().cpu().numpy()

    return predict


@torch.no_grad()
def predict_classes(
    run: "Run",
    network: DeepLabV2,
    ids: list[str],
    scales: tuple[float, ...],
    *,
    flip: bool,
    weights: "Weights",
) -> Iterator[tuple[str, np.ndarray, torch.Tensor]]:
    """Image id, image uint8 (H,W,3) and class logits (C,h,w) float32 of each of `ids`.

    Args:
        run: dataset and machine.
        network: comes back in eval mode, on the device.
        ids: the images.
        scales: the largest logit over these counts.
        flip: average with the mirror image's.
        weights: those of the network, for messages.

    Raises:
        UserError: if logits are not finite.
    """
    runtime = run.runtime
    model = runtime.place(MultiScale(network, scales)).eval()
    images = ImagePyramids(run.dataset, ids)
    for sample in read_ahead(runtime, images, batch_size=None):
        x_pair = sample["levels"][0]
        x = x_pair if flip else x_pair[:1]
        with runtime.accelerator.autocast():
            logits = model(x.to(runtime.device, non_blocking=True)).float()
        if flip:
            logits = (logits[:1] + logits[1:].flip(-1)) / 2
        if not logits.isfinite().all():
            raise not_finite(run, "DeepLab-v2", sample["image_id"], weights)
        yield sample["image_id"], np.asarray(sample["image"]), logits[0]
