"""The names of columns, which macOS and other systems may write in different characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any


def column_name(name: Any) -> str:
    """Returns the name of a column in Unicode's composed form (NFC), in which names are compared and kept: macOS writes an
    umlaut as two characters, other systems as one.

    Example:
        >>> column_name("La\\u0308nge") == "L\\u00e4nge", column_name(2024)
        (True, '2024')
    """
    return unicodedata.normalize("NFC", str(name))


def named(value: Any) -> Any:
    """Returns names of columns as `column_name` does, in lists and as keys of dicts too; other values unchanged.

    Example:
        >>> named({"leave_out": ["age"]}), named(3)
        ({'leave_out': ['age']}, 3)
    """
    if isinstance(value, str):
        return column_name(value)
    if isinstance(value, (list, tuple)):
        return [named(part) for part in value]
    if isinstance(value, Mapping):
        return {named(key): named(part) for key, part in value.items()}
    return value
