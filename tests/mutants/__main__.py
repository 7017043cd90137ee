"""Makes one small mistake at a time in a copy of the project, and sees whether its tests notice.

python -m tests.mutants              all of the tables
python -m tests.mutants NAME...      those with one of these words in their name or file
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.paths import ROOT, SHARED
from tests.mutants import functions, wiring
from tests.mutants.mutant import Mutant

TABLES = (functions.MUTANTS, wiring.MUTANTS)
LEFT_OUT = (".git", ".venv", "__pycache__", ".*_cache", "result", "demo_result")
PARTS = ("tests", "misc", "net", "step", "voc12", "run_sample")
SECONDS = 300  # that tests may take before they count as hanging
PASSED, FAILED = int(pytest.ExitCode.OK), int(pytest.ExitCode.TESTS_FAILED)


class Trial(NamedTuple):
    """Tests that are running on a mutant."""

    mutant: Mutant
    tree: Path
    start: float
    text: str  # of the module as it was


def main(arguments: Sequence[str]) -> int:
    """Try the mutants, a line each; 0 if all are noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="words in the names or files of mutants")
    parser.add_argument("--jobs", type=int, default=2, help="mutants that are tried at once")
    args = parser.parse_args(arguments)
    mutants = [m for table in TABLES for m in table if _is_asked(m, args.names)]
    os.environ["SBE_SHARED"] = str(SHARED)
    _load_what_takes_long()
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        trees = [_copy_of_project(Path(folder) / f"tree{number}") for number in range(args.jobs)]
        if not _pass_without_mutants(trees, mutants):
            return 1
        alive = [mutant for mutant, is_noticed in _try(mutants, trees) if not is_noticed]
    _say(f"{len(mutants) - len(alive)} of {len(mutants)} mutants die")
    return 1 if alive else 0


def _is_asked(mutant: Mutant, names: Sequence[str]) -> bool:
    return not names or any(name in mutant.name or name in mutant.file for name in names)


def _load_what_takes_long() -> None:
    """The libraries, so that each process that is forked has them."""
    import accelerate  # noqa: F401
    import numpy  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import torch.utils.data
    import torchvision  # noqa: F401

    torch.set_num_threads(1)  # threads would not survive a fork


def _copy_of_project(tree: Path) -> Path:
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return tree


def _pass_without_mutants(trees: Sequence[Path], mutants: Iterable[Mutant]) -> bool:
    """Whether all tests pass as things are: else their failing would say nothing."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    parts = [tests[k :: len(trees)] for k in range(len(trees))]
    pids = {
        _fork(tree, part, SECONDS * len(part), keeps_bytecode=True): tree
        for tree, part in zip(trees, parts, strict=True)
        if part
    }
    good = True
    for pid, tree in pids.items():
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != PASSED:
            good = False
            _say(f"The tests do not pass without a mutant:\n{_log_of(tree).read_text()[-5000:]}")
    return good


def _try(mutants: Iterable[Mutant], trees: Sequence[Path]) -> Iterable[tuple[Mutant, bool]]:
    """Each mutant, and whether its tests noticed it."""
    waiting, free = list(mutants), list(trees)
    running: dict[int, Trial] = {}
    while waiting or running:
        while waiting and free:
            mutant, tree = waiting.pop(0), free.pop()
            text = _spoil(tree / mutant.file, mutant)
            pid = _fork(tree, mutant.tests, SECONDS)
            running[pid] = Trial(mutant, tree, time.monotonic(), text)
        pid, status = os.wait()
        mutant, tree, start, text = running.pop(pid)
        word = _verdict(os.waitstatus_to_exitcode(status))
        _say(f"{word:8} {time.monotonic() - start:5.1f} s  {mutant.file}: {mutant.name}")
        if word == "unclear":
            _say(_log_of(tree).read_text()[-2000:])
        (tree / mutant.file).write_text(text)
        free.append(tree)
        yield mutant, word in ("dies", "hangs")


def _spoil(path: Path, mutant: Mutant) -> str:
    """Put the mistake in; returns the text that was there."""
    text = path.read_text()
    assert text.count(mutant.old) == 1, mutant
    path.write_text(text.replace(mutant.old, mutant.new))
    # Not the time of what was compiled before, however coarse the clock is.
    os.utime(path, (1, 1))
    return text


def _verdict(status: int) -> str:
    """What a status of pytest says of a mutant; no tests, or a broken module, say nothing."""
    words = {PASSED: "SURVIVES", FAILED: "dies", -signal.SIGALRM: "hangs"}
    return words.get(status, "unclear")


def _fork(tree: Path, tests: Sequence[str], seconds: int, *, keeps_bytecode: bool = False) -> int:
    """Id of a process that runs tests of a tree, and ends with pytest's status."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            signal.alarm(seconds)
            sys.dont_write_bytecode = not keeps_bytecode
            status = _run_tests(tree, tests)
        finally:
            os._exit(status)
    return pid


def _run_tests(tree: Path, tests: Sequence[str]) -> int:
    log = os.open(_log_of(tree), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(tree)
    sys.path[:] = [str(tree), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    for name in [n for n in sys.modules if n.partition(".")[0] in PARTS]:
        del sys.modules[name]
    basetemp = tree.with_name(f"{tree.name}_tmp")
    options = ["-x", "-q", "-m", "slow or not slow", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return int(pytest.main([*options, f"--rootdir={tree}", f"--basetemp={basetemp}", *tests]))


def _log_of(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.log")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
