"""What README.md tells people to paste is understood, and the files it names are there."""

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from run_sample import STEPS, make_parser, requested_steps

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_]+")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    shlex.split(line)
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
RUNS = [words[words.index("run_sample.py") + 1 :] for words in COMMANDS if "run_sample.py" in words]
MODULES = sorted(
    {
        words[i + 1]
        for words in COMMANDS
        for i, word in enumerate(words)
        if word == "-m" and words[i + 1].split(".")[0] in ("misc", "voc12", "tests")
    }
)


def flags_of_others(words: list[str]) -> list[str]:
    """The words of a command that are not for run_sample.py."""
    return words[: words.index("run_sample.py")] if "run_sample.py" in words else words


@pytest.mark.parametrize("flags", RUNS, ids=" ".join)
def test_the_runner_understands_each_command(flags: list[str]) -> None:
    args = make_parser().parse_args(flags)
    assert requested_steps(args)


@functools.cache
def help_of(module: str) -> str:
    command = [sys.executable, "-m", module, "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("module", MODULES)
def test_each_tool_says_how_it_is_used(module: str) -> None:
    assert "usage:" in help_of(module)


def test_every_step_and_every_flag_in_the_text_exists() -> None:
    known = {name for action in make_parser()._actions for name in action.option_strings}
    known |= {word.split("=")[0] for words in COMMANDS for word in flags_of_others(words)}
    known |= {word for module in MODULES for word in FLAG.findall(help_of(module))}
    assert set(FLAG.findall(TEXT)) <= known
    assert {step.name for step in STEPS} <= set(re.findall(r"`(\w+)`", TEXT))


def test_the_file_tree_names_what_is_there() -> None:
    tree = TEXT[TEXT.index("## Files") :]
    for name in re.findall(r"^([\w.]+/?) {2,}", tree, re.MULTILINE):
        assert (ROOT / name).exists(), name
