"""Networks with the weights that the recorded outputs were made with."""

import importlib.util
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.paths import GOLDEN


@pytest.fixture(scope="session")
def fill_by_name() -> Callable[[nn.Module], None]:
    """Fills a network from the names of its parameters, as the recordings did."""
    spec = importlib.util.spec_from_file_location("fill_weights", GOLDEN / "fill_weights.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)

    def fill(module: nn.Module) -> None:
        for name, tensor in module.state_dict().items():
            if tensor.dtype == torch.float32:
                values = recipe.fill(name.removeprefix("backbone."), tuple(tensor.shape))
                tensor.copy_(torch.from_numpy(values))

    return fill


@pytest.fixture(scope="session")
def recorded_networks() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "g3_networks_by_name.npz"))


@pytest.fixture(scope="session")
def reference_state() -> Callable[[str], dict]:
    """What is known of the reference's checkpoint of `cam` or `boundary`."""
    return lambda which: json.loads((GOLDEN / f"g3_{which}_state_dict.json").read_text())
