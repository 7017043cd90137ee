"""The one exception that means "the user can fix this", and what else the user can."""

import errno
import re
from collections.abc import Sequence

RERAISED_MARK = "UserError: "
FULL = (errno.ENOSPC, errno.EDQUOT)
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
# What the system refuses and the user can mend.
MENDABLE = (
    *FULL, *TOO_MANY_FILES, errno.EFBIG, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM,
    errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
    errno.ELOOP,
)  # fmt: skip
# torch has a class of its own for a GPU's memory, and none for the CPU's.
TORCH_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
# What torch says under --deterministic of an operator that has no kernel for it.
_NOT_REPEATABLE = re.compile(r"(\w+) does not have a deterministic implementation")
TO_GO_ON = "Finished work is kept: run the same command again"


def failure_in_words(error: BaseException, out_flag: str = "--out_dir") -> str | None:
    """What to say, in a sentence, of an error that the user can mend; None of any other.

    Args:
        error: what ended the work.
        out_flag: names where it writes.
    """
    if isinstance(error, UserError):
        return error.message
    if is_out_of_memory(error):
        return (
            f"Out of memory{_size_in(error)}. {TO_GO_ON}, with fewer --num_workers or smaller "
            "batches (such as --cam_batch_size), or where more memory is free."
        )
    not_repeatable = isinstance(error, RuntimeError) and _NOT_REPEATABLE.search(str(error))
    if not_repeatable:
        return (
            f"--deterministic yes: torch has no kernel of {not_repeatable[1]} that gives the same "
            f"bits each time on this device. {TO_GO_ON} with --deterministic no, or on the CPU."
        )
    if isinstance(error, OSError) and error.errno in MENDABLE:
        return with_remedy(error, out_flag)
    if isinstance(error, UnicodeEncodeError):
        near = error.object[max(error.start - 60, 0) : error.end + 20].strip()
        return f"A name is not UTF-8 ({near!a}). Rename the file or folder."
    return None


def with_remedy(error: OSError, flag: str = "--out_dir") -> str:
    """What the system refused, as one of `MENDABLE`, and what to do; `flag` names the output."""
    if error.errno in FULL:
        return f"{error}. Free some space, or choose another {flag}."
    if error.errno == errno.EFBIG:
        return f"{error}. Raise the limit of this shell (ulimit -f), or choose another {flag}."
    if error.errno in TOO_MANY_FILES:
        return f"{error}. Raise the limit of this shell (ulimit -n), or lower --num_workers."
    path = "the path" if error.filename is None else error.filename
    return f"{error}. Check {path} and its permissions, or choose another."


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory ran out: this process's, a DataLoader's worker's or a GPU's."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in TORCH_OUT_OF_MEMORY)


def _size_in(error: BaseException) -> str:
    """What was wanted, where the error says so."""
    wanted = re.search(r"allocate (\d[\d.]* \w+)", str(error))
    return "" if wanted is None else f" ({wanted[1]} were wanted)"


def some_images(ids: Sequence[object]) -> str:
    """The images in a message: how many, and which the first is."""
    return f"1 image ({ids[0]})" if len(ids) == 1 else f"{len(ids)} images (first: {ids[0]})"


class UserError(Exception):
    """A mistake in the user's input or settings.

    The message says what is wrong, where, and what to do. `run_sample.py` prints it without a
    traceback and ends with exit status 2.
    """

    def __init__(self, message: str) -> None:
        # By name as well: so torch raises again what a DataLoader's worker raised.
        super().__init__(message)

    @property
    def message(self) -> str:
        """The message alone: a DataLoader's worker sends it wrapped in its traceback."""
        text = str(self)
        if "Original Traceback" not in text:
            return text
        return text.rsplit(RERAISED_MARK, 1)[-1].strip()
