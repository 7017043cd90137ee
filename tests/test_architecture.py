"""Who may import whom, as data."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("misc", "net", "voc12", "step", "run_sample", "tests")
MAY_IMPORT = {
    "misc": {"misc"},
    "net": {"net", "misc.errors", "misc.checkpoint", "misc.cam_record"}
    | {"misc.boundary_codes", "misc.mask_codes", "misc.transforms"},
    "voc12": {"voc12", "misc"},
    "step": {"voc12", "net", "misc", "step.context", "step.networks", "step.preflight"}
    | {"step.scores", "step.predict", "step.disk_use", "step.segmentation", "step.report"}
    | {f"step.benchmark_{part}" for part in ("sets", "counts", "rows", "report")},
}
CONFIG_READERS = ("step", "run_sample.py", "misc/config.py")
MAX_LINES = 300


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).glob("*.py"))


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in OURS}


def is_allowed(name: str, allowed: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:n]) in allowed for n in range(1, len(parts) + 1))


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_packages_import_only_what_they_may(folder: str) -> None:
    for path in python_files(folder):
        modules = {name for name in imports_of(path) if name.count(".") <= 1 and name != folder}
        wrong = {name for name in modules if not is_allowed(name, MAY_IMPORT[folder])}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_no_module_names_a_cuda_device_outside_the_runtime() -> None:
    for folder in ("misc", "net", "voc12", "step"):
        for path in python_files(folder):
            assert ".cuda(" not in path.read_text(), path


def test_only_steps_and_the_runner_see_the_config() -> None:
    for folder in ("misc", "net", "voc12"):
        for path in python_files(folder):
            if path.name != "config.py":
                assert "misc.config" not in imports_of(path), path


def test_importing_all_modules_reads_and_writes_nothing_here(tmp_path: Path) -> None:
    # The reference reads cls_labels.npy from the working directory as soon as it is imported.
    names = [
        f"{folder}.{path.stem}"
        for folder in ("misc", "net", "voc12", "step")
        for path in python_files(folder)
        if path.stem != "__init__"
    ]
    code = (
        "import builtins, importlib, os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "really_open = open\n"
        "def checked_open(path, *args, **kwargs):\n"
        "    assert isinstance(path, int) or os.path.isabs(path), f'opens {path}'\n"
        "    return really_open(path, *args, **kwargs)\n"
        "builtins.open = checked_open\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert not list(tmp_path.iterdir())


def test_no_library_prints() -> None:
    for folder in ("misc", "net", "voc12", "step"):
        for path in python_files(folder):
            assert not re.search(r"^\s*print\(", path.read_text(), re.MULTILINE), path


def test_files_stay_short() -> None:
    for folder in ("misc", "net", "voc12", "step"):
        for path in python_files(folder):
            assert len(path.read_text().splitlines()) <= MAX_LINES, path


def test_nothing_below_the_dataset_knows_how_many_classes_there_are() -> None:
    # With the background, VOC has 21 and COCO 81; 20 and 80 are also bounds, rates and widths.
    for folder in ("misc", "net", "step"):
        for path in python_files(folder):
            assert "VOC_CLASSES" not in path.read_text(), path
            nodes = ast.walk(ast.parse(path.read_text()))
            numbers = {node.value for node in nodes if isinstance(node, ast.Constant)}
            assert not numbers & {21, 81}, path


def test_what_all_must_agree_on_is_written_once() -> None:
    homes = {
        "IGNORE": set(),  # VOID, by another name
        "VOID": {"misc/mask_codes.py"},
        "IMAGENET_MEAN": {"misc/transforms.py"},
        "IMAGENET_STD": {"misc/transforms.py"},
    }
    for name, expected in homes.items():
        paths = [
            path for folder in ("misc", "net", "voc12", "step") for path in python_files(folder)
        ]
        assignment = re.compile(rf"^{name} = ", re.MULTILINE)
        found = {str(p.relative_to(ROOT)) for p in paths if assignment.search(p.read_text())}
        assert found == expected, name
