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


def load_pastimes(memory_limit: int) -> Data:
    """900 made-up persons of random age, income, job and place, and which of four pastimes they have.

    Columns are of every kind, some with missing values. The chance of a pastime depends on the columns, so no model can be
    right for all.
    """
    import dataclasses

    import numpy as np
    import pandas as pd

    from zoo.datasets.sources.tables import read_table

    rng, count = np.random.default_rng(0), 900
    age = rng.integers(16, 90, count)
    job = rng.choice(["nurse", "teacher", "driver", "cook", "student"], count)
    garden = rng.random(count) < 0.2 + 0.006 * age
    income = np.round(rng.normal(30 + 0.3 * age, 8), 1)
    joined = np.datetime64("2019-01-01") + rng.integers(0, 2000, count)

    def flags(chance: np.ndarray) -> list[str]:
        return np.where(rng.random(count) < np.clip(chance, 0.03, 0.95), "yes", "no").tolist()

    frame = pd.DataFrame(
        {
            "age": age.astype(str),
            "income": np.where(rng.random(count) < 0.1, "", income.astype(str)),
            "job": job,
            "garden": np.where(garden, "yes", "no"),
            "joined": np.where(rng.random(count) < 0.05, "", joined.astype(str)),
            "reads": flags(0.2 + 0.008 * (age - 16) + 0.2 * (job == "teacher")),
            "plays football": flags(0.9 - 0.014 * (age - 16)),
            "grows vegetables": flags(0.05 + 0.7 * garden),
            "bakes": flags(0.15 + 0.6 * (job == "cook")),
        }
    )
    columns: dict[str, Any] = {"labels": list(frame.columns[5:])}
    data = read_table(frame, Path("pastimes"), "pastimes", "made up by this package", memory_limit, columns, {})
    return dataclasses.replace(data, arguments={}, licence="none needed, made by a program")


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
