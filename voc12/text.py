"""Text files that users write: one entry per line."""

from pathlib import Path

from misc.errors import UserError


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file (a byte order mark is dropped), stripped, empty ones left out.

    Raises:
        UserError: if the file is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from None
    return [line.strip() for line in text.split("\n") if line.strip()]
