"""Tables for the terminal."""

import textwrap
from collections.abc import Sequence

GAP = "  "
NARROWEST = 12


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Rows of text as an aligned table.

    Args:
        header: names of the columns.
        rows: cells, one for each column.
        width: characters that the table may take; the widest column is wrapped to keep to it.
    """
    lines = [list(header), ["-" * len(name) for name in header], *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - (width or 0)
    if width is not None and excess > 0:
        widest = widths.index(max(widths))
        widths[widest] = max(widths[widest] - excess, NARROWEST)
    return "\n".join(text for line in lines for text in _wrapped(line, widths))


def table_of_known(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> str:
    """As `table`, without the columns that have nothing but a dash."""
    kept = [i for i in range(len(header)) if any(row[i] != "-" for row in rows)]
    return table([header[i] for i in kept], [[row[i] for i in kept] for row in rows], width)


def _wrapped(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    parts = [
        textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
        for cell, width in zip(cells, widths, strict=True)
    ]
    height = max(map(len, parts))
    filled = [part + [""] * (height - len(part)) for part in parts]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*filled, strict=True)
    ]
