"""How the command-line tools end: with a status, a message instead of a traceback, what to type."""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from misc.errors import MENDABLE, UserError, with_remedy
from misc.log import setup_logging

logger = logging.getLogger(__name__)

USER_MISTAKE, INTERRUPTED = 2, 130
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


def exit_status(work: Callable[[], object], out_flag: str = "--out") -> int:
    """Do the work of a tool; return 0, or log a user error and return its status.

    Args:
        work: the tool.
        out_flag: names where it writes, for messages about that.
    """
    setup_logging(None)
    try:
        work()
    except UserError as error:
        logger.error("%s", error.message)
        return USER_MISTAKE
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        logger.error("%s", with_remedy(error, out_flag))
        return USER_MISTAKE
    except UnicodeEncodeError as error:
        logger.error("%s", _not_utf8(error))
        return USER_MISTAKE
    except KeyboardInterrupt:
        logger.warning("Stopped. Run the same command again to resume.")
        return INTERRUPTED
    return 0


def _not_utf8(error: UnicodeEncodeError) -> str:
    """What to say where a name of the user's, which no text can hold, was to be written."""
    near = error.object[max(error.start - 60, 0) : error.end + 20].strip()
    return f"A name is not UTF-8 ({near!a}). Rename the file or folder."


def this_python() -> str:
    """This Python as it is typed in the working directory, for messages."""
    path, here = Path(sys.executable), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else "python"
