"""One run for each place of results."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from misc.errors import UserError
from misc.workspace import RunLocks
from tests.helpers.paths import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from misc.workspace import RunLocks
folder = Path(sys.argv[1])
locks = RunLocks()
locks.acquire(folder, folder.parent, "--out_dir")
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_by_name_until_the_first_dies(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "notes"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    locks = RunLocks()
    with pytest.raises(UserError, match=rf"out is in use by process {holder.pid} on .*--out_dir"):
        locks.acquire(folder, folder.parent, "--out_dir")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    locks.acquire(folder, folder.parent, "--out_dir")
    locks.acquire(folder, folder.parent, "--out_dir")  # it is ours already
    locks.release()


def test_a_released_folder_can_be_taken(tmp_path: Path) -> None:
    first, second = RunLocks(), RunLocks()
    for locks in (first, second):
        locks.acquire(tmp_path, tmp_path, "--out_dir")
        locks.release()
    first.acquire(tmp_path, tmp_path, "--out_dir")
    with pytest.raises(UserError, match="is in use by process"):
        second.acquire(tmp_path, tmp_path, "--out_dir")
    first.release()
