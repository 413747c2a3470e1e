"""Names of published weights that are known to work, from pretrained.csv."""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Published weights.

    Attributes:
        name: the value of the builder's argument `weights`.
        model: the family that reads them.
        megabytes: size of the weights, rounded. The exact size is printed before a download.
        licence: their licence.
        purpose: what they are for.
    """

    name: str
    model: str
    megabytes: int
    licence: str
    purpose: str


@functools.cache
def pretrained() -> tuple[Pretrained, ...]:
    """Returns the weights in the order of the file. Several families have weights of the same name.

    Example:
        >>> pretrained()[0].licence
        'apache-2.0'
    """
    file = importlib.resources.files("zoo.checkpoints").joinpath("pretrained.csv")
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    found = (Pretrained(**{**row, "megabytes": int(row["megabytes"])}) for row in rows)  # type: ignore[arg-type]
    return tuple(found)


def names() -> list[str]:
    """Returns the different names."""
    return [*dict.fromkeys(each.name for each in pretrained())]


def table() -> str:
    """Returns the weights as a table for a terminal."""
    rows = [("name", "model", "size", "licence", "for")]
    rows += [(p.name, p.model, f"{p.megabytes} MB", p.licence, p.purpose) for p in pretrained()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join("  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in rows)
