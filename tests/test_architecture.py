"""Who may import whom, as data."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from step import STEPS
from tests.helpers.paths import ROOT

FOLDERS = ("misc", "net", "voc12", "step")
LEAVES = {
    "misc.errors", "misc.log", "misc.codes", "misc.csr", "misc.seeds", "misc.signals",
    "misc.streams",
}  # fmt: skip
ROOMS = {"misc.untrusted", "misc.images", "misc.metrics", "misc.workspace", "misc.runtime"}
# What a module may import of ours, besides its own package: the longest prefix of its name counts.
MAY_IMPORT: dict[str, set[str]] = {
    **{leaf: set() for leaf in LEAVES},
    **dict.fromkeys(ROOMS, LEAVES),
    "misc.command_line": LEAVES,
    "misc.weights": LEAVES | ROOMS,
    "misc.config": LEAVES | ROOMS | {"misc.cam_files"},
    "misc": LEAVES | ROOMS | {
        "misc.affinity", "misc.boundary_label", "misc.cam_files", "misc.command_line", "misc.crf",
        "misc.download", "misc.pseudo_mask", "misc.run_lengths", "misc.saliency",
        "misc.transforms", "misc.weights",
    },
    "net": LEAVES | {"misc.weights", "misc.cam_files", "misc.transforms"},
    "voc12": {"misc"},
    "step": {"misc", "net", "voc12"},
}  # fmt: skip
MAY_NOT_IMPORT = {"misc": {"misc.config"}, "net": {"misc.config"}, "voc12": {"misc.config"}}
# What a step may import of its own folder.
SHARED_BY_STEPS = {
    "step.graph", "step.run", "step.artefacts", "step.common", "step.seg", "step.benchmark",
}  # fmt: skip


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_of(path): path for folder in FOLDERS for path in python_files(folder)}


def imports_of(path: Path, *, at_start: bool = False) -> set[str]:
    """Modules of ours that a file imports; with `at_start` those that it needs to be loaded."""
    tree = ast.parse(path.read_text())
    nodes = list(tree.body) if at_start else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = members & MODULES.keys()
            names |= submodules or {node.module}
    return {name for name in names if name in MODULES}


def is_within(name: str, packages: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:n]) in packages for n in range(1, len(parts) + 1))


def rule_of(name: str) -> tuple[str, set[str]]:
    """The longest prefix of a module's name that has a rule, and the rule."""
    parts = name.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    prefix = next(prefix for prefix in prefixes if prefix in MAY_IMPORT)
    return prefix, MAY_IMPORT[prefix]


def room_of(name: str) -> str:
    """The package right below a folder, such as misc.crf; a module alone is its own."""
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_in_the_allowed_directions(name: str) -> None:
    prefix, allowed = rule_of(name)
    own = {room_of(name)} if name.startswith("misc") else {name.split(".")[0]}
    for imported in imports_of(MODULES[name]):
        assert is_within(imported, allowed | own), f"{name} imports {imported}"
        forbidden = MAY_NOT_IMPORT.get(name.split(".")[0], set()) - {prefix}
        assert not is_within(imported, forbidden), f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_from_outside_a_package_only_its_face_is_seen(name: str) -> None:
    for imported in imports_of(MODULES[name]):
        is_inside = imported.count(".") > 1 and imported.split(".")[0] in ("misc", "voc12")
        if is_inside and room_of(imported) != room_of(name):
            pytest.fail(f"{name} imports {imported}: take it from {room_of(imported)}")


def test_a_step_imports_no_other_step() -> None:
    for step in STEPS:
        files = [path for name, path in MODULES.items() if is_within(name, {f"step.{step}"})]
        for path in files:
            for imported in imports_of(path):
                if imported.startswith("step."):
                    own = {f"step.{step}"}
                    assert is_within(imported, SHARED_BY_STEPS - {"step.benchmark"} | own), path


def test_no_module_needs_itself_to_be_loaded() -> None:
    needs = {name: imports_of(path, at_start=True) - {name} for name, path in MODULES.items()}
    list(TopologicalSorter(needs).static_order())  # raises CycleError


def test_no_module_names_a_cuda_device_outside_the_runtime() -> None:
    for path in MODULES.values():
        assert ".cuda(" not in path.read_text(), path


def test_importing_all_modules_reads_and_writes_nothing_here(tmp_path: Path) -> None:
    # The reference reads cls_labels.npy from the working directory as soon as it is imported.
    names = [name for name in MODULES if not name.endswith("__main__")]
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
    for path in MODULES.values():
        assert not re.search(r"^\s*print\(", path.read_text(), re.MULTILINE), path


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
        "VOID": {"misc/codes.py"},
        "IMAGENET_MEAN": {"misc/transforms.py"},
        "IMAGENET_STD": {"misc/transforms.py"},
    }
    for name, expected in homes.items():
        assignment = re.compile(rf"^{name} = ", re.MULTILINE)
        found = {
            str(path.relative_to(ROOT))
            for path in MODULES.values()
            if assignment.search(path.read_text())
        }
        assert found == expected, name


PROGRAM_START = """
from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while
"""
PROGRAM_END = """
if __name__ == "__main__":
    run_as_program(main)
"""


def test_every_program_begins_and_ends_alike() -> None:
    programs = []
    for path in [ROOT / "run_sample.py", *MODULES.values()]:
        text = path.read_text()
        if '__name__ == "__main__"' in text:
            programs.append(path.stem)
            code = text.split('"""', 2)[2]
            assert code.lstrip("\n").startswith(PROGRAM_START.lstrip("\n")), path
            assert code.endswith(PROGRAM_END), path
    assert {"run_sample", "score", "compare", "check", "init", "__main__"} <= set(programs)
