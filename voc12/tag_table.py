"""`tags.csv`: the tags of a dataset in one file, written by hand or by a spreadsheet.

id,class
photo 1,mug,spoon
photo 2
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from misc.errors import UserError
from voc12.problems import shorten
from voc12.text import read_text

TAGS_FILE = "tags.csv"
HEADER = "id,class"
UNKNOWN = "?"  # in place of a class: nobody has looked at the image yet
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
UNKNOWN_REMEDY = "Correct it, or list the classes of your dataset in its classes.txt."
FORMAT = f"The first line is {HEADER}, then one line per image: its id and its class names."


def read_tag_table(path: Path, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Tags of every image that a table names.

    Args:
        path: UTF-8 text, separated by commas; an id alone is an image without a class, one with a
            question mark is an image without tags, which is left out.
        class_names: foreground class names in the order of their ids.

    Returns:
        image_id -> multi-hot float32 (C,).

    Raises:
        UserError: if the file is missing or not such a table, or names images twice or unknown
            classes: all of them.
    """
    column = {name: index for index, name in enumerate(class_names)}
    columns: dict[str, list[int]] = {}
    untagged: set[str] = set()
    problems: dict[str, str] = {}
    for line, cells in _rows(path):
        image_id, *names = cells
        if not image_id:
            problems[f"{path}, line {line}, has classes but no id."] = "Add it."
            continue
        if image_id in columns or image_id in untagged:
            problems[f"{path}, line {line}, names {image_id} again."] = "Keep one line per image."
            continue
        if UNKNOWN in names and UNKNOWN not in column:
            untagged.add(image_id)
            continue
        unknown = sorted(set(names) - column.keys())
        if unknown:
            what = f"{path}, line {line}, names the unknown class {', '.join(unknown)}."
            problems[what] = UNKNOWN_REMEDY
        columns[image_id] = [column[name] for name in names if name in column]
    if problems:
        raise UserError(_in_lines(problems))
    tags = np.zeros((len(columns), len(class_names)), np.float32)
    for row, present in zip(tags, columns.values(), strict=True):
        row[present] = 1
    return dict(zip(columns, tags, strict=True))


def _in_lines(problems: Mapping[str, str]) -> str:
    """Problems and their remedies: each remedy once, behind the problem if that is the only one."""
    if len(problems) == 1:
        return " ".join(*problems.items())
    remedies = " ".join(dict.fromkeys(problems.values()))
    return "\n".join(shorten(list(problems), "lines", remedies))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells (the id, then what is not empty) of each line below the header."""
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""))
        header = [cell.strip().lower() for cell in next(reader, [])]
        if header[:2] != HEADER.split(","):
            raise UserError(f"{path} does not begin with the line {HEADER}.{_separated(header)}")
        for row in reader:
            image_id, *names = [cell.strip() for cell in row] or [""]
            named = [name for name in names if name]
            if image_id or named:
                yield reader.line_num, [image_id, *named]
    except FileNotFoundError:
        raise UserError(f"No tags {path}. {FORMAT}") from None
    except csv.Error as error:
        raise UserError(f"{path} is not comma-separated text ({error}). {FORMAT}") from None


def _separated(header: Sequence[str]) -> str:
    """What to say of a table by its first cells, which are one where the separator is another."""
    first = header[0] if header else ""
    for character, name in OTHER_SEPARATORS.items():
        if first.replace(" ", "").startswith(HEADER.replace(",", character)):
            return f" It is separated by {name}: save it with commas. {FORMAT}"
    return f" {FORMAT}"
