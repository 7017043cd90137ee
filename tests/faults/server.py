"""A process that has everything loaded and forks for each probe: `python -m tests.faults.server`.

It builds the bench in the folder that it is given, says so by a line, and then reads requests from
its standard input, a line of JSON each, and answers each by one.
"""

import atexit
import contextlib
import json
import os
import resource
import runpy
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch
import tqdm

from tests.faults.bench import build
from tests.helpers.paths import ROOT

NOBODY = 65534


def main(here: Path) -> None:
    """Build the bench in `here`, then serve until there are no more requests."""
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    tqdm.tqdm.monitor_interval = 0
    build(here)
    # What a tool loads late would have to be read by those who lack root's rights.
    for tool in TOOLS:
        with contextlib.suppress(ImportError):
            __import__(tool)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(serve(json.loads(line))) + "\n")
        sys.stdout.flush()


TOOLS = (
    "run_sample", "voc12.check", "voc12.init", "voc12.make_lists", "voc12.make_cls_labels",
    "voc12.fetch_wsss_bed", "voc12.from_coco.__main__", "misc.cam_files.convert",
    "misc.mask_files.convert", "step.score", "step.compare",
)  # fmt: skip


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command in a forked process, and say how it ended."""
    folder = Path(request["folder"])
    said = {name: folder.with_name(f"{folder.name}.{name}") for name in ("stdout", "stderr")}
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(request, folder, said)
    watched = os.pidfd_open(child)
    ended, _, _ = select.select([watched], [], [], request["limit"])
    os.close(watched)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # its workers
    texts = {name: path.read_text(errors="replace") for name, path in said.items()}
    for path in said.values():
        path.unlink()
    return {
        "status": os.waitstatus_to_exitcode(status),
        "hangs": not ended,
        "seconds": time.monotonic() - start,
        **texts,
    }


def _become(request: dict[str, Any], folder: Path, said: dict[str, Path]) -> NoReturn:
    """Be the command: in its folder, with its own output, and without root's rights if asked."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(said[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, number)
            os.close(file)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        atexit._clear()  # what this process's parent has registered
        if request.get("plain_user") and os.getuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        for name, value in request.get("limits", {}).items():
            number = getattr(resource, f"RLIMIT_{name.upper()}")
            resource.setrlimit(number, (value, value))
        for number in request.get("closed", ()):
            os.close(number)
        status = _run_tool(request["tool"], request["arguments"])
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(status)


def _run_tool(tool: str, arguments: list[str]) -> int:
    """The exit status of `python -m tool arguments`, or of run_sample.py."""
    sys.argv = [tool, *arguments]
    sys.modules.pop(tool, None)
    sys.modules.pop(f"{tool}.__main__", None)
    try:
        if tool == "run_sample":
            runpy.run_path(str(ROOT / "run_sample.py"), run_name="__main__")
        else:
            runpy.run_module(tool, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # as Python itself ends
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
