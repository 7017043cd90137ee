"""The figures of the demo: outlines and patterns of four VOC classes.

Each class has its own outline and one part with its own colours and pattern; the rest of the body
wears any of the shared textures. A classifier needs the part only, so its activation maps miss
most of the body, as they do on photographs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = list[tuple[float, float]]
Floats = NDArray[np.floating[Any]]


def _stripes(u: Floats, v: Floats) -> Floats:
    return np.sin(2 * np.pi * (u + 0.25 * np.sin(4 * v)))


def _bands(u: Floats, v: Floats) -> Floats:
    return np.sin(2 * np.pi * (0.6 * v + 0.5 * u))


def _dots(u: Floats, v: Floats) -> Floats:
    return np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v) - 0.6


def _checks(u: Floats, v: Floats) -> Floats:
    return np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v)


def _grid(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.cos(2 * np.pi * u), np.cos(2 * np.pi * v)) - 0.5


PATTERNS = {"stripes": _stripes, "bands": _bands, "dots": _dots, "checks": _checks, "grid": _grid}


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0) -> Points:
    """Outline of an ellipse around (x, y) with radii (rx, ry), turned by `degrees`."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    turn = np.deg2rad(degrees)
    along, across = rx * np.cos(angle), ry * np.sin(angle)
    xs = x + along * np.cos(turn) - across * np.sin(turn)
    ys = y + along * np.sin(turn) + across * np.cos(turn)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


@dataclass(frozen=True)
class Figure:
    """A class: outlines in a box of about -1..1 (y down), and the part that tells it apart.

    Attributes:
        body: outlines whose union is the object, without the part.
        part: outlines of the distinctive part; they belong to the object too.
        colours: the part's two RGB colours, 0..1.
        pattern: name of the part's pattern, a key of `PATTERNS`.
        frequency: pattern periods across the box.
    """

    body: tuple[Points, ...]
    part: tuple[Points, ...]
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    pattern: str
    frequency: float


FIGURES = {
    "bird": Figure(
        body=(
            ellipse(-0.05, 0.05, 0.64, 0.44, 15),
            ellipse(-0.6, -0.38, 0.29, 0.27),
            [(-0.8, -0.52), (-1.12, -0.36), (-0.8, -0.26)],
            [(0.3, -0.02), (1.05, 0.12), (1.0, 0.48), (0.35, 0.45)],
            [(-0.14, 0.4), (0.0, 0.4), (-0.02, 0.8), (-0.16, 0.8)],
            [(0.16, 0.4), (0.3, 0.4), (0.28, 0.8), (0.14, 0.8)],
        ),
        part=(ellipse(0.08, 0.04, 0.5, 0.3, 15),),
        colours=((0.0, 0.15, 1.0), (0.95, 1.0, 1.0)),
        pattern="dots",
        frequency=8.0,
    ),
    "car": Figure(
        body=(
            [(-1.0, 0.0), (-0.9, -0.12), (0.85, -0.12), (1.0, 0.05), (1.0, 0.4), (-1.0, 0.4)],
            ellipse(-0.55, 0.4, 0.25, 0.25),
            ellipse(0.55, 0.4, 0.25, 0.25),
        ),
        part=([(-0.66, -0.08), (-0.4, -0.6), (0.36, -0.6), (0.66, -0.08)],),
        colours=((0.1, 0.3, 0.12), (0.6, 0.95, 0.6)),
        pattern="grid",
        frequency=6.0,
    ),
    "cat": Figure(
        body=(
            ellipse(0.0, 0.42, 0.42, 0.56),
            ellipse(0.5, 0.5, 0.36, 0.1, -50),
            ellipse(-0.2, 0.92, 0.16, 0.1),
            ellipse(0.2, 0.92, 0.16, 0.1),
        ),
        part=(
            ellipse(0.0, -0.36, 0.37, 0.33),
            [(-0.36, -0.4), (-0.38, -0.92), (-0.05, -0.62)],
            [(0.36, -0.4), (0.38, -0.92), (0.05, -0.62)],
        ),
        colours=((0.95, 0.55, 0.1), (0.35, 0.16, 0.05)),
        pattern="stripes",
        frequency=5.0,
    ),
    "horse": Figure(
        body=(
            ellipse(0.15, 0.0, 0.64, 0.36),
            [(-0.46, 0.1), (-0.2, 0.1), (-0.22, 0.85), (-0.44, 0.85)],
            [(0.48, 0.05), (0.76, 0.0), (0.76, 0.85), (0.54, 0.85)],
            [(-0.1, 0.15), (0.1, 0.15), (0.06, 0.78), (-0.1, 0.78)],
            [(0.22, 0.1), (0.42, 0.1), (0.4, 0.78), (0.24, 0.78)],
            [(0.68, -0.22), (1.04, 0.1), (0.98, 0.55), (0.84, 0.5), (0.8, 0.1)],
        ),
        part=(
            [(-0.44, 0.1), (-0.74, -0.6), (-0.42, -0.85), (-0.04, -0.26)],
            ellipse(-0.78, -0.58, 0.3, 0.17, -40),
        ),
        colours=((0.55, 0.1, 0.35), (0.95, 0.75, 0.85)),
        pattern="checks",
        frequency=5.0,
    ),
}
