"""Pictures of a comparison of CAMs and saliency maps, each as PNG and SVG.

matplotlib is imported by the functions: nothing else needs it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from misc.workspace import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLACK, GRAY = "#000000", "#666666"
PANELS_A_ROW = 3
DOTS_AN_INCH = 130


@dataclass(frozen=True)
class Curve:
    """Mean IoU against the activation threshold for one set of CAMs.

    Attributes:
        name: of the set.
        thresholds: T thresholds, ascending.
        lines: saliency set -> (T,) mIoU 0..1; there may be none.
        without_saliency: (T,) mIoU 0..1, or None.
    """

    name: str
    thresholds: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    without_saliency: Sequence[float] | None


class Interval(NamedTuple):
    """A score and the ends of its interval, 0..1, or -1..1 of a difference."""

    value: float
    low: float
    high: float


def write_heat_map(
    stem: Path, cams: Sequence[str], saliency: Sequence[str], miou: NDArray[np.float64]
) -> None:
    """Best mIoU of each pair of sets, the best of all in a frame.

    Args:
        stem: path without suffix.
        cams: R names.
        saliency: C names.
        miou: (R,C) 0..1; NaN where there is none.
    """
    percents = 100 * miou
    figure, axes = _figure(2.5 + 1.0 * len(saliency), 1.8 + 0.55 * len(cams))
    picture = axes.imshow(percents, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(saliency)), saliency, rotation=30, ha="right")
    axes.set_yticks(range(len(cams)), cams)
    axes.set(xlabel="saliency maps", ylabel="CAMs", title="mIoU at the best thresholds (%)")
    middle = (np.nanmin(percents) + np.nanmax(percents)) / 2 if np.isfinite(percents).any() else 0
    for (row, column), value in np.ndenumerate(percents):
        colour = "black" if value > middle else "white"
        text = "-" if np.isnan(value) else f"{value:.1f}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    if np.isfinite(percents).any():
        row, column = np.unravel_index(np.nanargmax(percents), percents.shape)
        _frame(axes, int(row), int(column))
    figure.colorbar(picture, ax=axes)
    _save(figure, stem)


def _frame(axes: "Axes", row: int, column: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.47, row - 0.45)
    frame = Rectangle(corner, 0.94, 0.9, fill=False, edgecolor="#D55E00", linewidth=3)
    frame.set_gid("best_cell")
    axes.add_patch(frame)


def write_curves(stem: Path, curves: Sequence[Curve]) -> None:
    """Mean IoU over activation thresholds: a panel per set of CAMs, a band over saliency sets.

    The line in the band is the median, which one bad set hardly moves. The sets have lines of
    their own where the colours suffice to tell them apart.

    Args:
        stem: path without suffix.
        curves: one per set of CAMs; dashed without saliency.
    """
    columns = min(len(curves), PANELS_A_ROW)
    rows = -(-len(curves) // columns)
    figure = _empty_figure(1.2 + 4.4 * columns, 1.2 + 3.4 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    names = list(dict.fromkeys(name for curve in curves for name in curve.lines))
    own = [colour for colour in COLOURS if colour != BLACK]
    colours = dict(zip(names, own, strict=False)) if len(names) <= len(own) else {}
    for axes, curve in zip(panels.flat, curves, strict=False):
        _draw_curve(axes, curve, colours)
    for axes in panels.flat[len(curves) :]:
        axes.remove()
    words = "mIoU at the best saliency threshold; band and median over saliency sets"
    figure.suptitle(words if columns > 1 else words.replace("; ", ";\n"))
    figure.supylabel("mIoU (%)")
    _add_legend(figure, panels.flat[: len(curves)])
    _save(figure, stem)


def _draw_curve(axes: "Axes", curve: Curve, colours: Mapping[str, str]) -> None:
    if curve.lines:
        values = 100 * np.array(list(curve.lines.values()))
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(curve.thresholds, low, high, color=GRAY, alpha=0.2, linewidth=0)
        middle = np.median(values, axis=0)
        axes.plot(curve.thresholds, middle, color=GRAY, linewidth=3, alpha=0.6, label="median")
    for name, line in curve.lines.items():
        if name in colours:
            axes.plot(curve.thresholds, 100 * np.array(line), color=colours[name], label=name)
    if curve.without_saliency is not None:
        dashed = 100 * np.array(curve.without_saliency)
        axes.plot(curve.thresholds, dashed, color=BLACK, linestyle="--", label="no saliency")
    axes.set(title=curve.name, xlabel="activation threshold")
    axes.grid(alpha=0.3)


def _add_legend(figure: "Figure", panels: Iterable["Axes"]) -> None:
    """One legend for all panels, each name once, below them."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize="small"
    )


def write_class_bars(
    stem: Path, iou: Mapping[str, Mapping[str, float]], title: str = "Classes at the best cells"
) -> None:
    """IoU of each class that occurs, one bar for each name.

    Args:
        stem: path without suffix.
        iou: name -> class -> IoU 0..1, NaN for classes that do not occur.
        title: of the picture.
    """
    every = next(iter(iou.values()))
    classes = [name for name in every if any(not np.isnan(each[name]) for each in iou.values())]
    figure, axes = _figure(max(5, 1.5 + 0.5 * len(classes)), 4.8)
    width = 0.8 / len(iou)
    for place, (name, colour) in enumerate(zip(iou, _colours(len(iou)), strict=True)):
        left = np.arange(len(classes)) - 0.4 + (place + 0.5) * width
        heights = [np.nan_to_num(100 * iou[name][each]) for each in classes]
        axes.bar(left, heights, width, color=colour, label=name)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set(ylabel="IoU (%)", title=title)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    _save(figure, stem)


def write_intervals(stem: Path, panels: Mapping[str, Mapping[str, Interval]]) -> None:
    """Scores with their intervals, one row for each name, side by side for several scores.

    Args:
        stem: path without suffix.
        panels: title -> name -> score and interval, -1..1; a line marks 0 where it is in sight.
    """
    rows = max(len(scores) for scores in panels.values())
    figure = _empty_figure(1.5 + 4.5 * len(panels), 1.5 + 0.5 * rows)
    for axes, (title, scores) in zip(figure.subplots(1, len(panels), squeeze=False)[0],
                                     panels.items(), strict=True):  # fmt: skip
        places, percents = np.arange(len(scores)), 100 * np.array(list(scores.values()))
        values, low, high = percents.T
        axes.errorbar(
            values, places, xerr=[values - low, high - values], fmt="o", capsize=4,
            color=COLOURS[0],
        )  # fmt: skip
        if low.min() < 0:
            axes.axvline(0, color=GRAY, linewidth=1)
        axes.set_yticks(places, list(scores))
        axes.set_ylim(len(scores) - 0.5, -0.5)
        axes.set(title=title, xlabel="%")
        axes.grid(axis="x", alpha=0.3)
    _save(figure, stem)


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    figure = _empty_figure(width, height)
    return figure, figure.add_subplot()


def _empty_figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", stem: Path) -> None:
    """Write `<stem>.png` and `<stem>.svg`; equal figures give equal bytes."""
    import matplotlib

    no_date: dict[str, Any] = {"Date": None}
    with matplotlib.rc_context({"svg.hashsalt": "sbe"}):
        for suffix, metadata in ((".png", None), (".svg", no_date)):
            with atomic_write(stem.with_name(stem.name + suffix)) as file:
                figure.savefig(file, format=suffix[1:], dpi=DOTS_AN_INCH, metadata=metadata)
