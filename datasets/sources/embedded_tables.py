"""Embedded tables: small real data sets of scikit-learn, split by the content of their rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.datasets.data import Data


def load_iris(memory_limit: int) -> Data:
    """150 flowers of three species of iris, with length and width of sepals and petals in cm (Fisher, 1936)."""
    return _load(
        "iris", memory_limit, "label", "species", "Fisher, Iris, UCI Machine Learning Repository, doi:10.24432/C56C76"
    )


def load_wine(memory_limit: int) -> Data:
    """178 wines of three growers, with 13 chemical measurements."""
    source = "Aeberhard and Forina, Wine, UCI Machine Learning Repository, doi:10.24432/C5PC7J"
    return _load("wine", memory_limit, "label", "grower", source)


def load_breast_cancer(memory_limit: int) -> Data:
    """569 tumours, malignant or benign, with 30 measurements of cell nuclei."""
    source = (
        "Wolberg, Mangasarian, Street and Street, Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning Repository, "
        "doi:10.24432/C5DW2B"
    )
    return _load("breast_cancer", memory_limit, "label", "diagnosis", source)


def load_diabetes(memory_limit: int) -> Data:
    """442 patients with ten measurements, and the progress of their diabetes after a year (25 to 346)."""
    source = "Efron, Hastie, Johnstone and Tibshirani, Least angle regression, Annals of Statistics 32(2), 2004"
    return _load("diabetes", memory_limit, "value", "progression", source, scaled=False)


def _load(name: str, memory_limit: int, key: str, target: str, source: str, **options: Any) -> Data:
    import dataclasses

    from sklearn import datasets as of_sklearn

    from zoo.datasets.sources.tables import read_table

    held = getattr(of_sklearn, f"load_{name}")(as_frame=True, **options)
    features = held.data.rename(columns=lambda column: column.replace(" (cm)", ""))
    goal = held.target.map(dict(enumerate(map(str, held.target_names)))) if key == "label" else held.target
    frame = features.assign(**{target: goal}).map(str)
    data = read_table(
        frame, Path(name), name, f"{source}, as shipped with scikit-learn", memory_limit, {key: target}, {}
    )
    licence = "CC BY 4.0" if "UCI" in source else "not stated by the source"
    return dataclasses.replace(data, arguments={}, licence=licence)
