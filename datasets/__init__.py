"""Data sets: raw splits, what they hold, and the preprocessor that training and the SavedModel share.

Importing this package is cheap; TensorFlow comes in with the first `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.datasets.sources import EMBEDDED, TESTED, list_datasets

if TYPE_CHECKING:
    from zoo.datasets.data import Data

__all__ = ["EMBEDDED", "TESTED", "list_datasets", "load"]


def load(name: str, *, data_dir: str | None = None, manual_dir: str | None = None, memory_limit: int = 2 << 30) -> Data:
    """Loads a data set by its name.

    `digits` (images) and `commands` (texts) are embedded and need no network. Every other name is one of TensorFlow
    Datasets whose features are one image or one text, and one class label, such as `mnist` or `clinc_oos`:
    prepared in `data_dir` already, downloaded, or made from the original files in `manual_dir`, which are checked
    against TensorFlow Datasets' checksums.

    Args:
        name: Name of the data set.
        data_dir: Where prepared data sets are kept, null for TensorFlow Datasets' own folder.
        manual_dir: Folder with the original files, for machines without network.
        memory_limit: Bytes that the model's view of one split may take in memory; a larger one is read as a stream.

    Returns:
        The raw `train`, `validation` and `test` splits with features, class names and licence; see
        `zoo.datasets.data.Data`.

    Raises:
        UsageError: unknown name (the nearest is offered), features that no task fits, missing or damaged original
            files (each is named, with where to get it), no network.

    Example:
        >>> data = zoo.datasets.load("digits")
        >>> data.class_names[3], data.features["image"].shape
        ('3', (8, 8, 1))
    """
    from zoo.datasets import sources

    return sources.load(name, data_dir=data_dir, manual_dir=manual_dir, memory_limit=memory_limit)
