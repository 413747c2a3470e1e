"""The 1,000 classes of ImageNet (ILSVRC 2012) in the order of published classifiers: sorted by their WordNet synset.

imagenet_classes.csv holds the first word of every synset in WordNet 3.0, with an addition where two would be equal.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources


@functools.cache
def class_names() -> tuple[str, ...]:
    """Returns the names, which all differ.

    Example:
        >>> class_names()[281:283]
        ('tabby', 'tiger cat')
    """
    file = importlib.resources.files("zoo.checkpoints").joinpath("imagenet_classes.csv")
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(row["class_name"] for row in rows)
