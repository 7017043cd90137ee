import errno
import os
import subprocess
import sys

import pytest
import torch

from misc.errors import UserError, failure_in_words
from tests.helpers.paths import ROOT

# A program that says something on both streams, and whether something else has their numbers.
PROGRAM = """
import os, sys
from misc.command_line import run_as_program

def main():
    print("the answer, mit Umläuten und \\udcff", flush=True)
    print("a message", file=sys.stderr)
    opened = os.open(os.devnull, os.O_WRONLY)
    os._exit(9) if opened < 3 else os.close(opened)
    os.write(2, b"of a library")
    return 0

run_as_program(main)
"""
# An object that cannot bear that Python takes itself apart.
ENDING = """
import atexit, os
from misc.command_line import end_process

class Frail:
    def __del__(self, end=os._exit):
        end(9)

frail = Frail()
atexit.register(print, "registered")
print("said")
end_process(3)
"""


def shell(redirection: str, code: str = PROGRAM) -> tuple[int, str, str]:
    """Status, stdout and stderr of a program behind a redirection of bash."""
    command = f'set -o pipefail; "$0" -c "$1" {redirection}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, code], cwd=ROOT, capture_output=True, text=True,
        timeout=60, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "redirection",
    ["", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "| true", "2>&1 | true", "2> >(true)"],
)
def test_closed_and_broken_streams_are_nothing_to_a_program(redirection: str) -> None:
    status, stdout, stderr = shell(redirection)
    assert status == 0
    assert stdout in ("", "the answer, mit Uml\\xe4uten und \\udcff\n")
    assert stderr in ("", "a message\nof a library")
    assert (stdout == "", stderr == "") == {
        "": (False, False), ">&-": (True, False), "2>&-": (False, True), "| true": (True, False),
        "2> >(true)": (False, True),
    }.get(redirection, (True, True))  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_answer_that_does_not_fit_on_the_disk_is_missed() -> None:
    said = "What belongs on stdout could not be written: [Errno 28] No space left on device.\n"
    assert shell(">/dev/full") == (2, "", f"a message\nof a library{said}")
    assert shell("2>/dev/full")[0] == 0


@pytest.mark.slow
def test_a_process_ends_before_python_takes_itself_apart() -> None:
    assert shell("", ENDING) == (3, "said\nregistered\n", "")


def of_torch(size: int) -> Exception:
    with pytest.raises(RuntimeError) as error:
        torch.empty(size)
    return error.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("The tags are bad."), "The tags are bad."),
        (MemoryError(), "Out of memory. Finished work is kept: run the same command again, with"),
        (of_torch(10**15), "Out of memory (4000000000000000 bytes were wanted). Finished work"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.50 GiB. GPU 0 has"),
         "Out of memory (9.50 GiB were wanted). Finished work is kept"),
        (OSError(errno.ENOSPC, "No space left", "a.png"), "'a.png'. Free some space, or choose an"),
        (OSError(errno.EFBIG, "File too large", "a.png"), "'a.png'. Raise the limit of this shell"),
        (OSError(errno.EMFILE, "Too many open files"), "(ulimit -n), or lower --num_workers."),
        (OSError(errno.EACCES, "Permission denied", "a.png"), "Check a.png and its permissions"),
        (RuntimeError("nll_loss2d_forward_out_cuda_template does not have a deterministic "
                      "implementation, but you set 'torch.use_deterministic_algorithms(True)'."),
         "--deterministic yes: torch has no kernel of nll_loss2d_forward_out_cuda_template that"),
        (RuntimeError("a mistake of ours"), None),
        (OSError("a mistake of ours"), None),
    ],
)  # fmt: skip
def test_what_the_user_can_mend_is_said_with_a_remedy(error: Exception, said: str | None) -> None:
    words = failure_in_words(error)
    assert words is None if said is None else said in (words or "")
