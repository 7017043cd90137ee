"""Networks that see what is salient, from ONNX files: which are published, and how they are run."""

from misc.saliency_network.models import (
    PUBLISHED,
    ModelFile,
    Published,
    Recipe,
    fetch,
    find_model,
    sha256_of,
)
from misc.saliency_network.network import SaliencyNetwork, enlarge, prepare

__all__ = [
    "PUBLISHED",
    "ModelFile",
    "Published",
    "Recipe",
    "SaliencyNetwork",
    "enlarge",
    "fetch",
    "find_model",
    "prepare",
    "sha256_of",
]
