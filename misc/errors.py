"""The one exception that means "the user can fix this"."""

import errno
from collections.abc import Sequence

RERAISED_MARK = "UserError: "
FULL = (errno.ENOSPC, errno.EDQUOT)
# What the system refuses and the user can mend.
MENDABLE = (
    *FULL, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST,
)  # fmt: skip


def with_remedy(error: OSError, flag: str = "--out_dir") -> str:
    """What the system refused, as one of `MENDABLE`, and what to do; `flag` names the output."""
    if error.errno in FULL:
        return f"{error}. Free some space, or choose another {flag}."
    if error.errno == errno.EFBIG:
        return (
            f"{error}: it exceeds the limit of the size of files. Raise the limit (ulimit -f), or "
            f"choose another {flag}."
        )
    path = "the path" if error.filename is None else error.filename
    return f"{error}. Check {path} and its permissions, or choose another."


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
