"""Line charts: where lines, ticks and marks lie; the page draws them as SVG."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 16, 30
TICKS = 4


class Line(NamedTuple):
    """A line through points; None leaves a gap."""

    name: str
    x: Sequence[float | None]
    y: Sequence[float | None]


class Mark(NamedTuple):
    """A point with a word beside it; open where there is none."""

    x: float
    y: float
    text: str


def line_chart(
    lines: Sequence[Line], x_title: str, marks: Sequence[Mark] = (), *, height: int = HEIGHT
) -> dict[str, Any]:
    """Geometry of a chart, in pixels from its upper left corner.

    Args:
        lines: at least one point among them.
        x_title: below the axis.
        marks: points with words.
        height: of the whole chart.

    Returns:
        width, height, the frame's left, right, top and bottom; `lines` with `name` and SVG path
        `d`; `x_ticks` and `y_ticks`, pairs of place and text; `marks` with x, y, text and the side
        that the text goes to.
    """
    xs = [x for line in lines for x in line.x if x is not None] + [mark.x for mark in marks]
    ys = [y for line in lines for y in line.y if y is not None] + [mark.y for mark in marks]
    x_values, y_values = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = min([*ys, *y_values[:1]]), max([*ys, *y_values[-1:]])
    bottom, right = height - BOTTOM, WIDTH - RIGHT

    def place_x(value: float) -> float:
        return round(LEFT + (value - x_low) / ((x_high - x_low) or 1) * (right - LEFT), 1)

    def place_y(value: float) -> float:
        return round(bottom - (value - y_low) / ((y_high - y_low) or 1) * (bottom - TOP), 1)

    return {
        "width": WIDTH, "height": height, "left": LEFT, "right": right, "top": TOP,
        "bottom": bottom, "x_title": x_title,
        "lines": [
            {"name": line.name, "d": _path([
                (None if x is None or y is None else (place_x(x), place_y(y)))
                for x, y in zip(line.x, line.y, strict=True)
            ])}
            for line in lines
        ],
        "x_ticks": [(place_x(value), f"{value:g}") for value in x_values if x_low <= value],
        "y_ticks": [(place_y(value), f"{value:g}") for value in y_values],
        "marks": [
            {"x": place_x(mark.x), "y": place_y(mark.y), "text": mark.text,
             "side": "end" if place_x(mark.x) > WIDTH / 2 else "start"}
            for mark in marks
        ],
    }  # fmt: skip


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """An SVG path; it begins anew after a gap."""
    parts, is_on = [], False
    for point in points:
        if point is not None:
            parts.append(f"{'L' if is_on else 'M'}{point[0]:g} {point[1]:g}")
        is_on = point is not None
    return "".join(parts)


def ticks(low: float, high: float) -> list[float]:
    """Round values of about `TICKS` even steps from `low` to `high`, both covered if possible."""
    span = (high - low) or abs(high) or 1.0
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.floor(high / step + 1e-9), first)
    return [round(k * step, 12) for k in range(first, last + 1)]
