"""How the command-line tools end: with a status, a message instead of a traceback, what to type."""

import atexit
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from misc.errors import UserError, failure_in_words
from misc.log import setup_logging
from misc.signals import exit_status_of, number_of, stoppable, words_of
from misc.streams import make_streams_last

logger = logging.getLogger(__name__)

USER_MISTAKE = 2
SHOWN_PROBLEMS = 20


def raise_problems(problems: Sequence[str], count: int, what: str) -> None:
    """Raise one UserError for all problems of a tool, if there are any.

    Args:
        problems: a line each; the first SHOWN_PROBLEMS are shown.
        count: of how many.
        what: the things that have them, as in "3 of 20 images have problems".
    """
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        shown = [*problems[:SHOWN_PROBLEMS], *([f"... and {more} more"] if more > 0 else [])]
        raise UserError(f"{len(problems)} of {count} {what} have problems:\n" + "\n".join(shown))


def run_as_program(main: Callable[[], int]) -> NoReturn:
    """Call `main` as what this process is for, and end with its exit status.

    Where stdout or stderr is closed, or nobody reads it any more, the work goes on all the same. If
    what belongs on stdout cannot be written for another reason, such as a full disk, that is said
    in the end.
    """
    stdout = make_streams_last()
    try:
        status = main()
    except SystemExit as error:  # argparse has said what there is to say
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    sys.stdout.flush()
    failure = stdout.failure
    if status == 0 and failure is not None and failure.errno != errno.EPIPE:
        sys.stderr.write(f"What belongs on stdout could not be written: {failure}.\n")
        status = USER_MISTAKE
    end_process(status)


def end_process(status: int) -> NoReturn:
    """End this process by a short way: what is registered for the end is done, and nothing else.

    A thread of torch.distributed lets go of a collective operation's tensors some time after the
    operation. If Python is taking itself apart by then, that aborts the process; destroying the
    process group does not help, since networks hold on to it. Python also takes its signal handlers
    away then: a second Ctrl-C would have a status of its own.

    Args:
        status: the exit status.
    """
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def exit_status(work: Callable[[], object], out_flag: str = "--out") -> int:
    """Do the work of a tool; return 0, or log an error that the user can mend and its status.

    Args:
        work: the tool.
        out_flag: names where it writes, for messages about that.
    """
    setup_logging(None)
    try:
        with stoppable():
            work()
    except KeyboardInterrupt as error:
        return stopped(error)
    except Exception as error:
        message = failure_in_words(error, out_flag)
        if message is None:
            raise
        logger.error("%s", message)
        return USER_MISTAKE
    return 0


def stopped(error: KeyboardInterrupt) -> int:
    """Say that this process was stopped, and return the exit status."""
    logger.warning("%s", words_of(number_of(error)))
    return exit_status_of(number_of(error))


def this_python() -> str:
    """This Python as it is typed in the working directory, for messages."""
    path, here = Path(sys.executable), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else "python"
