"""Figures of a benchmark: one CSV row per contender and setting, and a Markdown table with one column per contender."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from zoo import storage
from zoo.errors import UsageError

Row = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Figures:
    """The layout of a benchmark's CSV file and table.

    Attributes:
        setting: the columns that identify a setting, such as family and batch.
        value: the column of the measured figure.
        extra: further columns of the CSV file.
        contenders: title of each contender by name, in the order of the table; the first one is ours.
        digits: the format of the figure, such as ",.0f".
    """

    setting: tuple[str, ...]
    value: str
    extra: tuple[str, ...]
    contenders: Mapping[str, str]
    digits: str

    @property
    def columns(self) -> list[str]:
        """All columns of the CSV file, in order."""
        return [*self.setting, "contender", self.value, "ratio", "rounds", *self.extra]

    def write(self, rows: Iterable[Mapping[str, object]], file: Path) -> None:
        """Adds rows to a CSV file; rows with the same settings are replaced, other rows are kept."""
        new = [{column: str(row[column]) for column in self.columns} for row in rows]
        measured = {self._key(row) for row in new}
        kept = [row for row in self.read(file) if self._key(row) not in measured] if file.is_file() else []
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *new])
        storage.write_text(file, text.getvalue())

    def read(self, file: Path) -> list[dict[str, str]]:
        """Returns the rows of a CSV file.

        Raises:
            UsageError: the file does not exist, or has other columns.
        """
        if not file.is_file():
            raise UsageError(f"{file} does not exist. Call the benchmark with --output {file} first.")
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            if list(reader.fieldnames or ()) != self.columns:
                raise UsageError(
                    f"{file} has the columns {', '.join(reader.fieldnames or ())}; expected {', '.join(self.columns)}. "
                    "Pass another --output."
                )
            return list(reader)

    def _key(self, row: Row) -> tuple[str, ...]:
        return tuple(row[column] for column in self.setting)

    def table(self, rows: Sequence[Mapping[str, object]]) -> str:
        """Returns rows as a Markdown table with one line per setting and one column per contender.

        The ratio to our figure follows each other figure. An empty cell was not measured.
        """
        named = [{key: str(value) for key, value in row.items()} for row in rows]
        shown = [name for name in self.contenders if any(row["contender"] == name for row in named)]
        setting = [column for column in self.setting if any(row[column] for row in named)]
        lines = [
            "| "
            + " | ".join([column.replace("_", " ") for column in setting])
            + " | "
            + " | ".join(self.contenders[name] for name in shown)
            + " |",
            "|---" * (len(setting) + len(shown)) + "|",
        ]
        for key in dict.fromkeys(self._key(row) for row in named):
            found = {row["contender"]: row for row in named if self._key(row) == key}
            names = dict(zip(self.setting, key, strict=True))
            cells = [f"`{names[column]}`" if column == "family" else names[column] for column in setting]
            lines.append("| " + " | ".join([*cells, *(self._cell(found.get(name)) for name in shown)]) + " |")
        return "\n".join(lines)

    def _cell(self, row: Row | None) -> str:
        if row is None:
            return ""
        figure = format(float(row[self.value]), self.digits)
        return figure if row["contender"] == next(iter(self.contenders)) else f"{figure} (x{float(row['ratio']):.2f})"
