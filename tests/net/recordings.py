"""How far a network may be from what was recorded of the reference's."""

import numpy as np
import torch

# What the float32 recordings are away from the same computed in float64: 4.8e-7 at most here.
# Ours in float32 adds its own rounding, which depends on the processor's kernels: with AVX2 it is
# 2.2e-6 away from the recordings, on other processors below 2e-6.
NETWORK_TOLERANCES = {torch.float64: 1e-6, torch.float32: 5e-6}


def relative_error(ours: torch.Tensor, recorded: np.ndarray) -> float:
    """Largest difference, in units of the largest recorded value."""
    assert ours.shape == recorded.shape
    return float(np.abs(ours.numpy() - recorded).max() / np.abs(recorded).max())
