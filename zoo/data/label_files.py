"""Tables of labels: CSV or TSV files with a row for each picture."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError
from zoo.storage.atomic import read_bytes

_LARGEST = 1 << 28
_FILE_HEADS = ("file", "filename", "file_name", "image", "image_id", "path", "name", "id")
_LABEL_HEADS = ("label", "class", "target", "category", "y")
_SPLIT_HEADS = ("split", "subset", "set", "fold")


@dataclass(frozen=True)
class LabelRow:
    """A row of a table of labels.

    Attributes:
        file: The picture as the table names it.
        label: Index or name of the class.
        split: As the table states it; "" if it has no such column.
        line: Of the file, counted from 1.
    """

    file: str
    label: str
    split: str
    line: int


def read_labels(path: Path) -> list[LabelRow]:
    """Read a table of labels: columns of files and labels, separated by commas, semicolons or tabs.

    A first row with names of columns, such as file, label and split, says which is which; without one, the first
    column is the file and the second the label.

    Raises:
        InputError: The file cannot be read, a row is incomplete, or a picture has two rows.
    """
    if not path.is_file():
        raise InputError(
            f"The table of labels {path} does not exist or is not a file.", hint="Name a CSV file: file,label"
        )
    try:
        text = read_bytes(path, _LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a text file in UTF-8: {error.reason}.", hint="Save it with the encoding UTF-8."
        ) from error
    first = text.lstrip().partition("\n")[0]
    delimiter = max("\t;,", key=lambda each: (first.count(each), each == ","))
    try:
        lines = [
            (number, [cell.strip() for cell in row])
            for number, row in enumerate(csv.reader(io.StringIO(text), delimiter=delimiter), 1)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file: {error}.") from error
    heads = [cell.lower() for cell in lines[0][1]] if lines else []
    columns = [_column(heads, names) for names in (_FILE_HEADS, _LABEL_HEADS, _SPLIT_HEADS)]
    if columns[0] == 0 and columns[1] is None:
        raise InputError(
            f"{path} has the columns {', '.join(lines[0][1])[:80]}; which of them holds the class is not known.",
            hint="Call it label. Where classes have a column each, write the name of the class instead: file,label",
        )
    if columns[0] is None or columns[1] is None:
        columns = [0, 1, None]
    else:
        lines = lines[1:]
    if not lines:
        raise InputError(
            f"The table of labels {path} is empty.", hint="One row per picture is needed: file,label"
        )
    return _rows(path, lines, *columns)


def _rows(
    path: Path,
    lines: list[tuple[int, list[str]]],
    file_at: int | None,
    label_at: int | None,
    split_at: int | None,
) -> list[LabelRow]:
    assert file_at is not None
    assert label_at is not None
    rows: dict[str, LabelRow] = {}
    for number, cells in lines:
        if len(cells) <= max(file_at, label_at, split_at or 0) or not (cells[file_at] and cells[label_at]):
            raise InputError(
                f"{path}, line {number}: a file and a label are required, not '{','.join(cells)[:80]}'.",
                hint="One row per picture is needed: file,label",
            )
        row = LabelRow(
            cells[file_at], _whole(cells[label_at]), "" if split_at is None else cells[split_at], number
        )
        if row.file in rows:
            raise InputError(
                f"{path} lists {row.file} twice: in line {rows[row.file].line} as {rows[row.file].label}, "
                f"in line {number} as {row.label}.",
                hint="Remove one of the rows.",
            )
        rows[row.file] = row
    _refuse_fractions(path, list(rows.values()))
    return list(rows.values())


def _whole(label: str) -> str:
    """A number that a table of floats holds as "3.0" is the class 3."""
    return re.sub(r"(\d+)\.0*", r"\1", label) if re.fullmatch(r"-?\d+\.0*", label) else label


def _refuse_fractions(path: Path, rows: list[LabelRow]) -> None:
    """Refuse labels that are numbers, but not all of them whole: measurements, or "nan" for what is missing."""
    numbers = [_number(row.label) for row in rows]
    if None in numbers:
        return
    for row, number in zip(rows, numbers, strict=True):
        if number is not None and not number.is_integer():
            raise InputError(
                f"{path}, line {row.line}: the label '{row.label}' is not the number of a class.",
                hint="Name classes, or number them from 0.",
            )


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


def _column(heads: list[str], names: tuple[str, ...]) -> int | None:
    return next((heads.index(name) for name in names if name in heads), None)
