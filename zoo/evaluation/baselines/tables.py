"""The columns of a table as scikit-learn takes them, for the baselines of tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.baselines.contract import Columns, read_columns
from zoo.scores import best_thresholds
from zoo.tasks import get_task

if TYPE_CHECKING:
    import pandas as pd

    from zoo.datasets.raw import RawData

_PARTS: dict[str, Callable[[Any], Any]] = {
    "month": lambda time: time.dt.month,
    "weekday": lambda time: time.dt.dayofweek,
    "hour": lambda time: time.dt.hour,
}
"""The parts of a time, each as a column of its own."""
_WORDS = 2**14
_MOST_ROWS = 20_000


def has_classes(data: RawData) -> bool:
    """Returns whether a data set is a table with one class label per row."""
    return bool(data.about.get("table")) and get_task(data.task).classes == "label"


def has_labels(data: RawData) -> bool:
    """Returns whether a data set is a table with several labels at once per row."""
    return bool(data.about.get("table")) and get_task(data.task).targets == ("labels",) and len(data.class_names) > 1


def has_values(data: RawData) -> bool:
    """Returns whether a data set is a table with one or more values to predict per row."""
    return bool(data.about.get("table")) and get_task(data.task).targets == ("value",)


def frame(examples: Columns, data: RawData) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Returns the columns of a table without its targets, and their names by kind: number, category, text.

    Yes and no are numbers. A time is a number, its seconds, and the categories month, weekday and hour (UTC). Numbers that
    are missing or infinite are NaN.
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    kinds: dict[str, list[str]] = {"number": [], "category": [], "text": []}

    def add(kind: str, name: str, values: Any) -> None:
        columns[name] = values
        kinds[kind].append(name)

    for name, kind in data.about["table"].items():
        values = examples[name]
        if kind in ("category", "text"):
            add(kind, name, [value.decode("utf-8", "replace") for value in values.tolist()])
            continue
        numbers = np.asarray(values, np.float64)
        add("number", name, np.where(np.isfinite(numbers), numbers, np.nan))
        if kind == "time":
            times = pd.to_datetime(pd.Series(numbers), unit="s", errors="coerce")
            for part, of in _PARTS.items():
                add("category", f"{name}: {part}", ["" if n != n else f"{n:g}" for n in of(times).tolist()])
    return pd.DataFrame(columns), kinds


def values(make: Callable[[], Any], train: Any, targets: np.ndarray, rows: Any, data: RawData) -> dict[str, np.ndarray]:
    """Fits a regression to every target and returns its predictions. Targets that the model learns as logarithms are
    learned as logarithms."""
    from sklearn.compose import TransformedTargetRegressor

    found = []
    for target in targets.reshape(len(targets), -1).T.astype(np.float64):
        model, known = make(), np.isfinite(target)
        if data.about.get("log_values"):
            model = TransformedTargetRegressor(model, func=np.log1p, inverse_func=np.expm1)
        found.append(model.fit(train[known], target[known]).predict(rows))
    return {"values": np.stack(found, axis=1)}


def labels(model: Any, train: Columns, examples: Columns, data: RawData) -> dict[str, Any]:
    """Fits a classifier of several labels and returns its probabilities, and for each label the threshold with the best F1
    score on the validation split, if there is one."""
    model.fit(frame(train, data)[0], np.asarray(train["labels"], int))
    found = {"probabilities": model.predict_proba(frame(examples, data)[0])}
    if data.splits["validation"].num_examples:
        known = read_columns(data.splits["validation"], _MOST_ROWS)
        scores = model.predict_proba(frame(known, data)[0])
        found["thresholds"] = best_thresholds(known["labels"], scores)
    return found


def words() -> list[Any]:
    """Returns the steps that turn a column of texts into the TF-IDF of its words. A hash of words never fails, also where
    no text has a word."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    return [HashingVectorizer(n_features=_WORDS, alternate_sign=False, norm=None), TfidfTransformer()]


def transformer(parts: Mapping[str, tuple[Any, str | list[str]]]) -> Any:
    """Returns a ColumnTransformer of the parts that have columns, each (transformer, names of columns)."""
    from sklearn.compose import ColumnTransformer

    return ColumnTransformer([(name, part, columns) for name, (part, columns) in parts.items() if columns])
