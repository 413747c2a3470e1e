"""Cross-validation: one run for every fold."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import datasets, run_display, storage
from zoo.errors import UsageError
from zoo.pipeline import run
from zoo.preparation import default_directory


@dataclasses.dataclass(frozen=True, repr=False)
class CrossValidation:
    """The result of `cross_validate`.

    Attributes:
        directory: the folder with a run for each fold, and cross_validation.json with the metrics.
        folds: the metrics of each fold by name, including those of the baselines.
        passed: whether every fold's SavedModel was verified; True without export.
    """

    directory: Path
    folds: tuple[Mapping[str, float], ...]
    passed: bool

    def __repr__(self) -> str:
        return run_display.folds_as_text(self)

    def _repr_html_(self) -> str:
        return run_display.folds_as_html(self)

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """Mean and standard deviation over the folds of every metric that all folds have."""
        shared = [name for name in (self.folds or [{}])[0] if all(name in fold for fold in self.folds)]
        values = {name: [fold[name] for fold in self.folds] for name in shared}
        return {k: {"mean": statistics.fmean(v), "deviation": statistics.pstdev(v)} for k, v in values.items()}

    def table(self) -> str:
        """Returns the summary as a table for a terminal."""
        width = max(map(len, self.summary))
        lines = [f"{k:<{width}}  {v['mean']:10.4f}  +- {v['deviation']:.4f}" for k, v in self.summary.items()]
        return "\n".join([f"{len(self.folds)} folds, mean and standard deviation", *lines])


def cross_validate(model: str, data: Any, *, folds: int = 5, **arguments: Any) -> CrossValidation:
    """Trains a model once for every fold. Each example is in the test split of one fold.

    Args:
        model: a registered model's name.
        data: a data set's name, or data as `zoo.run` takes it.
        folds: number of folds, at least 2.
        **arguments: as in `run`; every fold is a run in `RUN_DIRECTORY/fold-K`.

    Raises:
        UsageError: as in `run`, and for data that is split by time.

    Example:
        >>> zoo.cross_validate("lstm", "digit_rows", folds=5).summary["accuracy"]["mean"]
    """
    from zoo import evaluation

    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise UsageError(f"folds is {folds!r}; expected a whole number of at least 2. Pass folds=5, say.")
    given = arguments.pop("run_directory", None)
    first = Path(given) if given else default_directory(model, data)
    directory = first if given else first.with_name(f"{first.name}-folds")
    load = dict(arguments.pop("data_arguments", None) or {})
    if not isinstance(data, str):  # once for all folds
        splits = {name: arguments.pop(name, None) for name in ("validation", "test")}
        data, load = datasets.load(data, model=model, **splits, **load), {}
    results = [
        run(
            model,
            data,
            data_arguments={**load, "folds": folds, "fold": fold},
            run_directory=directory / f"fold-{fold}",
            **arguments,
        )
        for fold in range(folds)
    ]
    if not results[0].report:  # this is a worker, and the chief does the rest
        return CrossValidation(directory, (), True)
    figures = tuple(evaluation.figures(result.report) for result in results)
    passed = all(result.verification is None or result.verification.passed for result in results)
    done = CrossValidation(directory, figures, passed)
    content = {"folds": [dict(fold) for fold in done.folds], "summary": done.summary, "verified": passed}
    storage.write_json(directory / "cross_validation.json", content)
    return done
