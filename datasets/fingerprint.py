"""Hashes of data. A run belongs to the content that it was trained on, whatever its name or folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_SHOWN = 6  # entries of long lists in messages


def content_hash(dataset: tf.data.Dataset) -> str:
    """Returns the hexadecimal SHA-256 of the examples of a dataset in their order. It reads the dataset once.

    Args:
        dataset: dicts of tensors. Their dimensions may vary.

    Example:
        >>> rows = tf.data.Dataset.from_tensor_slices({"text": ["a", "b"], "label": [0, 1]})
        >>> content_hash(rows) == content_hash(rows.take(1).concatenate(rows.skip(1)))
        True
    """
    columns: dict[str, Any] = {}

    def add(name: str, values: np.ndarray) -> None:
        if values.dtype == object:  # hash the lengths too: "ab", "c" is not "a", "bc"
            add(f"{name}.lengths", np.array([len(value) for value in values.ravel()], np.int64))
            content, kind = b"".join(values.ravel()), "bytes"
        else:
            content, kind = np.ascontiguousarray(values).tobytes(), values.dtype.str
        columns.setdefault(f"{name} {kind} {values.shape[1:]}", hashlib.sha256()).update(content)

    for batch in dataset.ragged_batch(256):
        for key, value in batch.items():
            if isinstance(value, tf.RaggedTensor):
                for depth, lengths in enumerate(value.nested_row_lengths()):
                    add(f"{key}.{depth}", lengths.numpy())
                value = value.flat_values
            add(key, value.numpy())
    return hashlib.sha256(
        json.dumps({name: columns[name].hexdigest() for name in sorted(columns)}).encode()
    ).hexdigest()


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Everything in prepared data that a trained model depends on.

    Attributes:
        class_names: the labels in the order of their numbers.
        preprocessor: kind and configuration of the preprocessor, with its vocabulary if it has one, as JSON values.
        splits: `examples` (their number) and `sha256` (hash of their content) by the split's name.
    """

    class_names: Sequence[str]
    preprocessor: Mapping[str, Any]
    splits: Mapping[str, Mapping[str, Any]]

    @property
    def sha256(self) -> str:
        """The hash of the fingerprint. It is equal on every machine, in every folder and on every worker."""
        content = [list(self.class_names), self.preprocessor, self.splits]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def changes(self, now: Fingerprint) -> list[str]:
        """Returns phrases that describe how other data differs from this, or an empty list.

        Example:
            >>> old = Fingerprint(("no", "yes"), {}, {})
            >>> old.changes(Fingerprint(("yes",), {}, {}))
            ['the class names were no, yes and are yes']
        """
        found = []
        if list(self.class_names) != list(now.class_names):
            found.append(f"the class names were {_listed(self.class_names)} and are {_listed(now.class_names)}")
        for key in sorted({*self.preprocessor, *now.preprocessor}):
            old, new = self.preprocessor.get(key), now.preprocessor.get(key)
            if old != new:
                found.append(_difference(key, old, new))
        splits = self.split_changes(now)
        others = [name for name in splits if self.splits[name]["examples"] == now.splits[name]["examples"]]
        found += [phrase for name, phrase in splits.items() if name not in others]
        return found + ([_other_content(others)] if others else [])

    def split_changes(self, now: Fingerprint) -> dict[str, str]:
        """Returns how each split of other data differs from this one's, by name, without the equal splits."""
        found = {}
        for name in self.splits:
            old, new = self.splits[name], now.splits[name]
            if old["examples"] != new["examples"]:
                found[name] = f"the {name} split had {old['examples']} examples and has {new['examples']}"
            elif old != new:
                found[name] = _other_content([name])
        return found


def _other_content(names: Sequence[str]) -> str:
    *first, last = names
    of, verb = (f"{', '.join(first)} and {last} splits", "have") if first else (f"{last} split", "has")
    return f"the {of} {verb} different content or a different order"


def _difference(key: str, old: Any, new: Any) -> str:
    if not (isinstance(old, list) and isinstance(new, list)):
        return f"{key} was {str(old)[:60]} and is {str(new)[:60]}"
    gone, come = (list((Counter(map(str, a)) - Counter(map(str, b))).elements()) for a, b in ((old, new), (new, old)))
    parts = [f"{what} {_listed(words)}" for what, words in (("without", gone), ("with", come)) if words]
    size = f"{len(old)} entries" + (f" and has {len(new)}" if len(old) != len(new) else "")
    return f"the {key} had {size}, now {' and '.join(parts) or 'in a different order'}"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
