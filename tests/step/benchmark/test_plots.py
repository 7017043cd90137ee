import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from step.benchmark.plots import Curve, write_class_bars, write_curves, write_heat_map
from tests.helpers.paths import ROOT


def check_written(stem: Path) -> str:
    """Both files are whole pictures; the text of the SVG."""
    assert sorted(path.name for path in stem.parent.iterdir()) == [
        f"{stem.name}.png", f"{stem.name}.svg",
    ]  # fmt: skip
    with Image.open(stem.with_suffix(".png")) as picture:
        picture.load()
    return stem.with_suffix(".svg").read_text(encoding="utf-8")


def comments(svg: str) -> set[str]:
    """The texts of a picture: matplotlib names them in comments."""
    return {text.strip() for text in re.findall(r"<!--(.*?)-->", svg, re.DOTALL)}


def test_the_heat_map_frames_the_best_and_writes_every_score(tmp_path: Path) -> None:
    miou = np.array([[0.5, np.nan], [0.612, 0.25]])
    write_heat_map(tmp_path / "heat", ["a", "b"], ["s", "none"], miou)
    svg = check_written(tmp_path / "heat")
    assert {"50.0", "61.2", "25.0", "-", "a", "b", "s", "none"} <= comments(svg)
    assert svg.count('id="best_cell"') == 1


def test_a_heat_map_of_nothing_has_no_best(tmp_path: Path) -> None:
    write_heat_map(tmp_path / "heat", ["a"], ["s"], np.full((1, 1), np.nan))
    assert 'id="best_cell"' not in check_written(tmp_path / "heat")


def test_equal_pictures_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_heat_map(tmp_path / name / "heat", ["a"], ["s"], np.array([[0.5]]))
    for suffix in (".png", ".svg"):
        first, second = ((tmp_path / n / f"heat{suffix}").read_bytes() for n in ("one", "two"))
        assert first == second


def test_curves_with_and_without_saliency(tmp_path: Path) -> None:
    thresholds = [0.1, 0.5, 0.9]
    curves = [
        Curve("a", thresholds, {"s": [0.3, 0.5, 0.2], "t": [0.4, 0.6, 0.1]}, [0.2, 0.3, 0.1]),
        Curve("b", thresholds, {}, [0.1, 0.2, 0.3]),
        Curve("c", thresholds, {"s": [0.1, 0.2, 0.3]}, None),
        Curve("d", thresholds, {"s": [0.1, 0.2, 0.3]}, None),
    ]
    write_curves(tmp_path / "curves", curves)
    svg = check_written(tmp_path / "curves")
    assert {"a", "b", "c", "d", "s", "t", "median", "no saliency"} <= comments(svg)
    # Four panels in two rows; each name stands once, in the legend of all.
    assert len(set(re.findall(r'id="(axes_\d+)"', svg))) == 4
    assert svg.count("<!-- no saliency -->") == svg.count("<!-- median -->") == 1


def test_more_saliency_sets_than_colours_are_a_band(tmp_path: Path) -> None:
    lines = {f"set {i}": [0.1 * i, 0.2] for i in range(7)}
    write_curves(tmp_path / "curves", [Curve("a", [0.1, 0.5], lines, [0.1, 0.2])])
    names = comments(check_written(tmp_path / "curves"))
    assert {"a", "median", "no saliency"} <= names
    assert "set 0" not in names


def test_bars_of_the_classes_that_occur(tmp_path: Path) -> None:
    first = {"background": 0.9, "cat": 0.5, "sofa": math.nan, "dog": math.nan}
    second = {"background": 0.8, "cat": 0.4, "sofa": math.nan, "dog": 0.3}
    write_class_bars(tmp_path / "bars", {"a x s": first, "b x none": second})
    names = comments(check_written(tmp_path / "bars"))
    assert {"background", "cat", "dog", "a x s", "b x none"} <= names
    assert "sofa" not in names


@pytest.mark.parametrize("count", [1, 9])
def test_more_sets_than_colours(tmp_path: Path, count: int) -> None:
    write_class_bars(tmp_path / "bars", {f"set {i}": {"background": 0.5} for i in range(count)})
    assert f"set {count - 1}" in comments(check_written(tmp_path / "bars"))


def test_matplotlib_is_loaded_only_by_drawing() -> None:
    import subprocess

    code = "import sys, step.benchmark.plots; sys.exit('matplotlib' in sys.modules)"
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
