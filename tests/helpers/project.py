"""A copy of the project with a further step, made by the two edits that a step takes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.paths import ROOT


def project_with_step(tree: Path, name: str, code: str, *, after: str) -> Path:
    """Copy the project into `tree`: one file more, and one line more in the list of steps."""
    for folder in ("misc", "net", "voc12", "step"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run_sample.py", tree)
    (tree / "step" / f"{name}.py").write_text(code)
    registry = tree / "step" / "__init__.py"
    text, line = registry.read_text(), f'    "{after}",\n'
    assert text.count(line) == 1
    registry.write_text(text.replace(line, f'{line}    "{name}",\n'))
    return tree


def start_in(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS` in the copy."""
    return subprocess.run(
        [sys.executable, *words], cwd=tree, capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
