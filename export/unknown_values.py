"""Categories in requests that a model does not know, from the vocabularies in zoo.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MOST, _LONGEST = 5, 40
"""Values in a message, and characters of each."""


def vocabularies_of(facts: Mapping[str, Any]) -> dict[str, tuple[str, frozenset[str]]]:
    """Returns the column and the known values of every input of categories, by input.

    Args:
        facts: the contents of zoo.json, which may be of unknown origin.

    Example:
        >>> group = {"names": ["Town"], "inputs": ["town"], "vocabularies": [["Bonn", "Ulm"]]}
        >>> vocabularies_of({"preprocessor": {"groups": [group]}})
        {'town': ('Town', frozenset({'Bonn', 'Ulm'}))}
    """
    try:
        groups = [group for group in facts["preprocessor"]["groups"] if "vocabularies" in group]
        return {
            key: (str(column), frozenset(known))
            for group in groups
            for key, column, known in zip(group["inputs"], group["names"], group["vocabularies"], strict=True)
        }
    except (KeyError, TypeError, ValueError):  # another preprocessor, or a damaged file
        return {}


def unknown_values(rows: Sequence[Mapping[str, Any]], vocabularies: Mapping[str, tuple[str, frozenset[str]]]) -> str:
    """Returns a sentence that names the values that the model does not know, the most frequent first; "" without any.

    Args:
        rows: values by input, texts as bytes; empty ones are missing.
        vocabularies: see `vocabularies_of`.

    Example:
        >>> unknown_values([{"town": b"Rome"}, {"town": b"Ulm"}], {"town": ("Town", frozenset({"Ulm"}))})
        "The model does not know Town 'Rome' (1 row), and treats it as no information."
    """
    columns = {key: [row[key] for row in rows if key in row] for key in vocabularies}
    return described(unknown_counts(columns, vocabularies))


def unknown_counts(
    columns: Mapping[str, Iterable[Any]], vocabularies: Mapping[str, tuple[str, frozenset[str]]]
) -> Counter[tuple[str, str]]:
    """Returns how often values occur that the model does not know, by column of the data and value.

    Args:
        columns: values by input, texts as bytes; empty ones are missing.
        vocabularies: see `vocabularies_of`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for key, (column, known) in vocabularies.items():
        for value, count in Counter(columns.get(key, ())).items():
            text = (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
            if text and text not in known:
                counts[column, text] += count
    return counts


def described(counts: Counter[tuple[str, str]]) -> str:
    """Returns the sentence of `unknown_values` for counts of `unknown_counts`."""
    shown, column = [], ""
    for (name, text), count in counts.most_common(_MOST):
        said = f"{_shortened(text)!r} ({count:,} row{'s' * (count != 1)})"
        shown.append(said if name == column else f"{name} {said}")
        column = name
    if not shown:
        return ""
    more = f" and {len(counts) - _MOST:,} other values" if len(counts) > _MOST else ""
    treated = "it" if len(counts) == 1 else "them"
    return f"The model does not know {', '.join(shown)}{more}, and treats {treated} as no information."


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
