"""What the READMEs tell people to paste works, and what they name is there."""

import ast
import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from misc.config import config_from
from run_sample import make_parser, requested_steps
from step import STEPS
from step.graph import full_config_class
from tests.helpers.paths import ROOT
from tests.helpers.project import project_with_step, start_in
from tests.helpers.tiny import Run, copy_run

README = ROOT / "README.md"
READMES = [README, *(ROOT / name / "README.md" for name in (
    "step", "step/benchmark", "net", "misc", "misc/cam_files", "voc12", "tests/benchmarks",
))]  # fmt: skip
TEXTS = {path: path.read_text(encoding="utf-8") for path in READMES}
FLAG = re.compile(r"(?<![\w-])--[a-z][a-zA-Z0-9_]+")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXTS[path], re.DOTALL)


COMMANDS = [
    shlex.split(line)
    for path in READMES
    for block in blocks(path, "bash")
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
RUNS = [words[words.index("run_sample.py") + 1 :] for words in COMMANDS if "run_sample.py" in words]
MODULES = sorted(
    {
        words[i + 1]
        for words in COMMANDS
        for i, word in enumerate(words)
        if word == "-m" and words[i + 1].split(".")[0] in ("misc", "step", "voc12", "tests")
    }
)


def test_the_readme_is_short() -> None:
    assert README.stat().st_size <= 8 * 1024


@pytest.mark.parametrize("flags", RUNS, ids=" ".join)
def test_the_runner_understands_each_command(flags: list[str]) -> None:
    args = make_parser().parse_args(flags)
    assert requested_steps(config_from(vars(args), full_config_class()), args.steps)


@functools.cache
def help_of(module: str) -> str:
    command = [sys.executable, "-m", module, "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("module", MODULES)
def test_each_tool_says_how_it_is_used(module: str) -> None:
    assert "usage:" in help_of(module)


def flags_of_others(words: list[str]) -> list[str]:
    """The words of a command that are not for run_sample.py."""
    return words[: words.index("run_sample.py")] if "run_sample.py" in words else words


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.parent.name))
def test_every_flag_in_a_text_exists(path: Path) -> None:
    known = {name for action in make_parser()._actions for name in action.option_strings}
    known |= {word.split("=")[0] for words in COMMANDS for word in flags_of_others(words)}
    known |= {word for module in MODULES for word in FLAG.findall(help_of(module))}
    stated = {"--NAME_pass", "--count_cams_pass", "--count_from"}  # of the step to add
    assert set(FLAG.findall(TEXTS[path])) <= known | stated


@pytest.mark.parametrize("path", [README, ROOT / "step" / "README.md"], ids=["all", "step"])
def test_every_step_is_named(path: Path) -> None:
    hidden = {"make_submission"}  # runs with make_seg, for --voc_submission
    steps = {name for name in STEPS if name not in hidden}
    if path == README:
        steps -= {"make_confident_regions"}
    assert steps <= set(re.findall(r"`(\w+)`", TEXTS[path]))


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", TEXTS[path], re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.parent.name))
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[path]):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.parent.name))
def test_the_trees_name_what_is_there(path: Path) -> None:
    trees = [block for block in blocks(path, "") if "__init__.py " in block or ".py  " in block]
    for name in re.findall(r"^([\w./]+)(?=,? {1,})", "\n".join(trees), re.MULTILINE):
        assert (path.parent / name).exists(), name


def test_every_room_of_misc_is_described() -> None:
    rooms = {p.name + "/" for p in (ROOT / "misc").iterdir() if (p / "__init__.py").exists()}
    rooms |= {p.name for p in (ROOT / "misc").glob("*.py")} - {"__init__.py"}
    assert rooms <= set(re.findall(r"`([\w.]+/?)", TEXTS[ROOT / "misc" / "README.md"]))


def test_the_examples_of_misc_run(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    examples = blocks(ROOT / "misc" / "README.md", "python")
    for example in examples:
        exec(example, namespace)
    assert len(examples) == 10
    assert "mIoU" in capsys.readouterr().out


def test_the_example_of_run_has_flags_as_names() -> None:
    (example,) = blocks(README, "python")
    known = {action.dest for action in make_parser()._actions} | {"data_root", "steps"}
    calls = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Call)]
    (words,) = (
        [keyword.arg for keyword in call.keywords]
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "run"
    )
    assert set(words) <= known


@pytest.mark.slow
def test_the_step_to_add_works(tiny_dataset: Path, finished_run: Run, tmp_path: Path) -> None:
    (example,) = blocks(ROOT / "step" / "README.md", "python")
    tree = project_with_step(tmp_path / "tree", "count_cams", example, after="eval_cam")
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = [f"--data_root={tiny_dataset}", f"--out_dir={out_dir}", "--backbone=resnet18",
             "--backbone_weights=none", "--num_workers=0", "--panels=0", "--report=no"]  # fmt: skip
    done = start_in(tree, "run_sample.py", *flags, "--steps=count_cams", "--count_from=2")
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("count_cams"))
    assert re.search(r"done +8 +[\d.]+ +\d+ images", row)
    stale = start_in(tree, "run_sample.py", *flags, "--steps=count_cams", "--plan")
    assert "--count_from was 2, is 1" in stale.stdout


@pytest.mark.parametrize("name", ["LICENSE", "CITATION.cff"])
def test_licence_and_citation(name: str) -> None:
    assert "MIT" in (ROOT / name).read_text(encoding="utf-8")
