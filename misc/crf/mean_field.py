"""Mean field of the dense CRF in torch operations, on the CPU or a GPU.

Kraehenbuehl and Koltun, NIPS 2011, with the filters of `misc.permutohedral`.
"""

import functools

import torch
from torch import Tensor

from misc.crf.permutohedral import PermutohedralFilter


class TorchMeanField:
    """The mean field of one image; its two filters serve every inference."""

    def __init__(
        self,
        image: Tensor,
        *,
        gaussian_sxy: float,
        gaussian_compat: float,
        bilateral_sxy: float,
        bilateral_srgb: float,
        bilateral_compat: float,
        iterations: int,
    ) -> None:
        """Build the filters of `image` (H,W,3) uint8 RGB on its device.

        Standard deviations are in pixels (sxy) and grey levels (srgb). Raises UserError if they
        are too small for a lattice.
        """
        height, width = image.shape[:2]
        self._compats = (gaussian_compat, bilateral_compat)
        self._iterations = iterations
        self._gaussian = gaussian_filter(height, width, gaussian_sxy, image.device)
        self._bilateral = bilateral_filter(image, bilateral_sxy, bilateral_srgb)

    @torch.no_grad()
    def infer(self, unary: Tensor, *, last_stands_for: int = 1) -> Tensor:
        """Marginals float32 (B,L,N) of B CRFs at once from their energies `unary` (B,L,N).

        The last label gets its message divided by the number of labels that it stands for.
        """
        batch, num_labels, num_pixels = unary.shape
        by_pixel = unary.permute(2, 0, 1).contiguous()
        marginals = _softmax(by_pixel.neg())
        for _ in range(self._iterations):
            values = marginals.view(num_pixels, batch * num_labels)
            message = self._gaussian(values).mul_(self._compats[0])
            message.add_(self._bilateral(values), alpha=self._compats[1])
            message = message.view_as(by_pixel)
            if last_stands_for > 1:
                message[..., -1].div_(last_stands_for)
            marginals = _softmax(message.sub_(by_pixel))
        return marginals.permute(1, 2, 0)


def _softmax(scores: Tensor) -> Tensor:
    """Softmax over the last dimension, in place; torch's own is slow on short rows."""
    scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))


@functools.lru_cache(maxsize=4)
def gaussian_filter(
    height: int, width: int, sxy: float, device: torch.device
) -> PermutohedralFilter:
    """Filter over position: the same for all images of a size, so the last few are kept."""
    return PermutohedralFilter(_scaled_positions(height, width, sxy, device))


def bilateral_filter(image: Tensor, sxy: float, srgb: float) -> PermutohedralFilter:
    """Filter over position and colour of `image` (H,W,3)."""
    height, width = image.shape[:2]
    positions = _scaled_positions(height, width, sxy, image.device)
    colours = image.reshape(-1, 3).T.float()
    return PermutohedralFilter(torch.cat([positions, colours / _on_device_of(colours, srgb)]))


def _scaled_positions(height: int, width: int, sxy: float, device: torch.device) -> Tensor:
    """Float32 (2,H*W): x and y of each pixel, row by row, over `sxy`."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    return torch.stack([x.flatten(), y.flatten()]) / _on_device_of(x, sxy)


def _on_device_of(tensor: Tensor, number: float) -> Tensor:
    """`number` as a tensor to divide by, filled where `tensor` is, so that nobody waits for a copy.

    A GPU would multiply by the reciprocal of a plain number, which rounds differently.
    """
    return tensor.new_full((), number)
