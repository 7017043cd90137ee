"""A probe: what is damaged, what is typed, and how it must end; and how this is found out."""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.bench import FLAGS
from tests.faults.damage import Damage
from tests.helpers.paths import ROOT

REFUSED, DONE, STOPPED = 2, 0, 130
OUTPUTS = ("out", "out_seg", "out_bench", "stopped")
RUN_FILES = ("scores.json", "scores.settings.json", "run.json")
LIMIT = 60.0  # seconds until it counts as a hang


@dataclass(frozen=True)
class Probe:
    """A line of the table.

    Attributes:
        name: what is wrong, in a few words.
        damage: what happens to the copy of the bench.
        flags: what is typed after the command; of run_sample.py, after the tiny run's flags.
        status: the exit status.
        words: what the message must say, the file or the flag among it.
        tool: the command: run_sample, or a module.
        begins: the fault shows while it works: new files may be there afterwards.
        changes: what the command is to replace; anything else that changes is a loss.
        is_bare: the flags are all that is typed.
        options: `plain_user`, `limits` (of the process) or `closed` (streams).
        pending: who is at work on it; until then the probe must fail.
    """

    name: str
    damage: Damage
    flags: str
    status: int
    words: tuple[str, ...]
    tool: str = "run_sample"
    begins: bool = False
    changes: tuple[str, ...] = ()
    is_bare: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    pending: str = ""

    @property
    def arguments(self) -> list[str]:
        typed = shlex.split(self.flags)
        if self.tool != "run_sample" or self.is_bare:
            return typed
        return ["--data_root=voc", "--out_dir=out", *FLAGS, *typed]


def probe(name: str, damage: Damage, flags: str, status: int, *words: str, **more: Any) -> Probe:
    """A line of the table."""
    return Probe(name, damage, flags, status, words, **more)


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        status: its exit status.
        hangs: it did not end by itself.
        text: all that it said.
        lost: files that were there before, and are gone or changed.
        added: files that are new.
        seconds: how long it took.
    """

    status: int
    hangs: bool
    text: str
    lost: Sequence[str]
    added: Sequence[str]
    seconds: float


class Bench:
    """A running server, and copies of its bench."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.original = folder / "bench"
        self.original.mkdir()
        cache = folder / "cache"
        cache.mkdir(mode=0o777)
        nowhere = "http://127.0.0.1:9"  # refuses at once: no probe reaches the network
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server", str(self.original)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
                "TORCH_HOME": str(cache), "XDG_CACHE_HOME": str(cache), "HOME": str(cache),
                "http_proxy": nowhere, "https_proxy": nowhere, "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )  # fmt: skip
        assert self._line() == "ready"
        self.count = 0

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    @contextlib.contextmanager
    def copy(self) -> Iterator[Path]:
        """A copy of the bench to damage."""
        self.count += 1
        here = self.folder / f"probe{self.count}"
        shutil.copytree(self.original, here, copy_function=os.link, symlinks=True)
        try:
            yield here
        finally:
            shutil.rmtree(here, onerror=_permit)

    def run(
        self, here: Path, tool: str, arguments: Sequence[str], limit: float = LIMIT, **options: Any
    ) -> Ending:
        """Run a command in `here`, and see what it did to the files there."""
        request = {
            "folder": str(here), "tool": tool, "arguments": list(arguments), "limit": limit,
            **options,
        }  # fmt: skip
        before = fingerprints(here)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self._line())
        after = fingerprints(here)
        return Ending(
            answer["status"], answer["hangs"], answer["stderr"] + answer["stdout"],
            [name for name in before if after.get(name) != before[name]],
            [name for name in after if name not in before], answer["seconds"],
        )  # fmt: skip

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def _permit(_function: object, path: str, _error: object) -> None:
    """Remove what a probe has forbidden to remove."""
    os.chmod(os.path.dirname(path), 0o700)
    if os.path.isdir(path):
        os.chmod(path, 0o700)
        shutil.rmtree(path, onerror=_permit)
    else:
        os.unlink(path)


@contextlib.contextmanager
def open_bench() -> Iterator[Bench]:
    """A bench, in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        os.chmod(folder, 0o755)
        bench = Bench(Path(folder))
        try:
            yield bench
        finally:
            bench.close()


def fingerprints(here: Path) -> dict[str, str]:
    """Every file and what it is; a run's log and notes are left out."""
    found = {}
    for folder, names, files in os.walk(here):
        names[:] = [name for name in names if not name.endswith(".sbe")]
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *links):
            path = os.path.join(folder, name)
            if not name.endswith(".log"):
                found[os.path.relpath(path, here)] = _what(path)
    return found


def _what(path: str) -> str:
    state = os.lstat(path)
    if stat.S_ISREG(state.st_mode):
        return _digest(path, state.st_ino, state.st_size, state.st_mtime_ns)
    return os.readlink(path) if stat.S_ISLNK(state.st_mode) else f"mode {state.st_mode}"


_digests: dict[tuple[int, ...], str] = {}


def _digest(path: str, *state: int) -> str:
    """The digest of a file's content; copies share most of their files, which are read once."""
    if state not in _digests:
        try:
            with open(path, "rb") as file:
                _digests[state] = hashlib.blake2b(file.read()).hexdigest()
        except PermissionError:  # not root, who may read anything
            return "unreadable"
    return _digests[state]


def judge(each: Probe, ending: Ending) -> list[str]:
    """What is wrong with how a probe ended; nothing if it ended as it must."""
    wrong = faults_of(ending)
    said = " ".join(ending.text.split())  # some messages are wrapped
    is_missing = [word for word in each.words if word not in said]
    if ending.status != each.status:
        wrong.append(f"status {ending.status}, not {each.status}")
    if is_missing:
        wrong.append(f"silent about {', '.join(map(repr, is_missing))}")
    works = ending.status == DONE or each.begins
    lost = [
        name
        for name in ending.lost
        if not name.startswith(each.changes) and not (works and is_of_a_run(name))
    ]
    if lost:
        wrong.append(f"lost: {', '.join(lost)}")
    if ending.added and not works:
        wrong.append(f"refused, but wrote {', '.join(ending.added)}")
    return wrong


def is_of_a_run(name: str) -> bool:
    """True for what every run that does something brings up to date in its output folder."""
    folder, _, file = name.partition("/")
    return folder in OUTPUTS and (file in RUN_FILES or file.startswith("panels/"))


def faults_of(ending: Ending) -> list[str]:
    """What must never be, however a command ends."""
    wrong = ["hangs"] if ending.hangs else []
    if "Traceback (most recent call last)" in ending.text:
        wrong.append("traceback")
    return wrong
