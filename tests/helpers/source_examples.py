"""Helpers for data sources: examples as Python values, files to read, and error messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import zoo

SPLITS = ("train", "validation", "test")


def rows(data, split=None) -> list[dict]:
    """Returns all examples of a split, or of all splits."""
    return [e for s in ([split] if split else SPLITS) for e in examples(data.splits[s].dataset())]


def examples(dataset) -> list[dict]:
    """Returns all examples. Examples of one shape are read in batches, which is much faster."""
    if not all(spec.shape.is_fully_defined() for spec in dataset.element_spec.values()):
        return list(dataset.as_numpy_iterator())
    return [
        dict(zip(batch, values, strict=True))
        for batch in dataset.batch(512).as_numpy_iterator()
        for values in zip(*batch.values(), strict=True)
    ]


def sizes(data) -> list[int]:
    return [data.splits[s].num_examples for s in SPLITS]


def words(example, key="text") -> str:
    return example[key].decode()


def write(path: Path, content: str, encoding="utf-8") -> str:
    path.write_bytes(content.encode(encoding))
    return f"csv:{path}"


def message(name, **options) -> str:
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load(str(name), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def picture(path: Path, level: int, size=(5, 4), mode="L", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level if mode == "L" else (level,) * 3).save(path, **options)
    return path
