"""Binarised, blurred and inverse variants of a folder of saliency maps, to compare as sets.

python -m tests.benchmarks.saliency_variants SRC DST
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from misc.saliency import read_saliency
from tests.helpers.sets import write_map

VARIANTS = ("binarised", "blurred", "inverse")
BLUR = 8.0  # pixels


def vary(saliency: NDArray[np.floating], variant: str) -> NDArray[np.floating]:
    """A variant (H,W) of a map (H,W), 0..1."""
    if variant == "binarised":
        return (saliency > 0.5).astype(np.float64)
    return ndimage.gaussian_filter(saliency, BLUR) if variant == "blurred" else 1 - saliency


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder of <id>.png")
    parser.add_argument("target", type=Path, help="folder for a folder a variant")
    args = parser.parse_args(arguments)
    for variant in VARIANTS:
        (args.target / variant).mkdir(parents=True, exist_ok=True)
    for path in sorted(args.source.glob("*.png")):
        saliency = read_saliency(path)
        for variant in VARIANTS:
            write_map(args.target / variant / path.name, vary(saliency, variant))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
