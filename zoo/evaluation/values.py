"""Report of predicted values: errors in the unit of each target, next to the mean and the median of the training split.

It works on NumPy arrays and anything that converts to them, with one or more numbers per example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo import copies
from zoo.display import short_number
from zoo.errors import UsageError
from zoo.evaluation import quantiles as of_quantiles
from zoo.evaluation import value_plots
from zoo.evaluation.intervals import bootstrap, mean, with_interval
from zoo.evaluation.prediction import predict_split
from zoo.evaluation.reports import Figure, Report, ReportKind, register_report
from zoo.tasks.quantiles import SHIFTS, calibrated

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

MOST_SAMPLES = 500
MOST_DRAWN = 4
_MOST_LINES = 10

Array = NDArray[np.float64]


def value_report(
    targets: ArrayLike,
    predictions: ArrayLike,
    names: Sequence[str],
    *,
    train_targets: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    levels: Sequence[float] = (),
    quantiles: ArrayLike | None = None,
) -> dict[str, Any]:
    """Compares predicted values with the actual ones, every target by itself.

    Args:
        targets: the actual values in their own units, shape `(n, targets)`, or `(n,)` for one target.
        predictions: the predicted values, in the same shape and units.
        names: the names of the targets, in the order of the columns.
        train_targets: the values of the training split, shape `(m, targets)`, for the baseline. NaN is skipped. None takes
            the evaluated targets, which makes the baseline slightly too good.
        weights: non-negative numbers in the shape of `targets`, or one per example. Values with weight 0 are ignored.
        levels: levels of predicted quantiles, ascending, between 0 and 1.
        quantiles: the predicted quantiles in the units of the targets, `(n, targets, levels)`; only with `levels`.

    Returns:
        A dict of plain strings, numbers and lists that `json.dumps(report, allow_nan=False)` accepts:

        - `num_examples`: the examples with at least one value;
        - `targets`: for every target `name`; `count`, the number of its values; `mae`, `rmse`: mean absolute and root mean
          squared error; `r2`: 1 - squared error / squared distance of the targets from their mean, None if all targets are
          equal; `bias`: mean of prediction minus target; and `baseline`: `mean` and `median` of the training split, `mae`
          of always predicting this median, `rmse` and `r2` of always predicting this mean; with `levels` also what
          `zoo.evaluation.quantiles.figures` returns;
        - `mae`, `rmse`, `bias` of the only target, and its `baseline`; for several targets, whose units may differ, `mae of
          NAME` of each; with `levels` also `pinball`, `coverage` and `interval_width`, or `pinball of NAME` and so on;
        - `r2`: the mean over the targets that have one, None without one;
        - `baseline_from`: "training split" or "evaluated targets";
        - `samples`: for the first 4 targets, at most 500 pairs `true` and `predicted`, spread evenly over the examples; with
          an interval of quantiles also its ends, `low` and `high`.

    Raises:
        UsageError: shapes or names do not fit, there are no values, numbers are not finite, or weights are invalid.

    Example:
        >>> report = value_report([1.0, 2.0, 6.0], [1.0, 3.0, 5.0], ["price"], train_targets=[2.0, 4.0])
        >>> round(report["mae"], 4), round(report["r2"], 4), round(report["baseline"]["mae"], 4)
        (0.6667, 0.8571, 2.0)
    """
    true, guessed, weight = _checked(targets, predictions, names, weights)
    train = true if train_targets is None else _columns(np.asarray(train_targets, np.float64))
    if train.shape[1:] != true.shape[1:] or not np.isfinite(train).any(axis=0).all():
        raise UsageError(
            f"train_targets have shape {train.shape}; expected (m, {true.shape[1]}) with a finite number of every target. "
            "Pass the targets of the training split."
        )
    if train_targets is None:
        train = np.where(weight > 0, train, np.nan)
    predicted = of_quantiles.checked(quantiles, levels, true.shape, weight) if quantiles is not None else None
    columns = []
    for j, name in enumerate(names):
        real = weight[:, j] > 0
        if not real.any():
            raise UsageError(
                f"The target {name!r} has no value to evaluate: all weights are 0. Check that the split has its values."
            )
        columns.append(_figures(name, true[real, j], guessed[real, j], weight[real, j], train[:, j]))
        if predicted is not None:
            known = train[np.isfinite(train[:, j]), j]
            more = of_quantiles.figures(true[real, j], predicted[real, j], weight[real, j], known, levels)
            columns[-1] |= {**more, "baseline": columns[-1]["baseline"] | more["baseline"]}
    scores = [column["r2"] for column in columns if column["r2"] is not None]
    if len(columns) == 1:
        top = {
            key: columns[0][key] for key in ("mae", "rmse", "bias", *of_quantiles.KEYS, "baseline") if key in columns[0]
        }
    else:
        keys = ("mae", *of_quantiles.KEYS)
        top = {f"{key} of {column['name']}": column[key] for column in columns for key in keys if key in column}
    ends = of_quantiles.widest(levels) if predicted is not None else None
    band = None if predicted is None or ends is None else predicted[:, :, list(ends)]
    return {
        "num_examples": int((weight > 0).any(axis=1).sum()),
        "targets": columns,
        **top,
        "r2": float(np.mean(scores)) if scores else None,
        "baseline_from": "evaluated targets" if train_targets is None else "training split",
        "samples": [
            _samples(true[:, j], guessed[:, j], weight[:, j], None if band is None else band[:, j])
            for j in range(min(len(columns), MOST_DRAWN))
        ],
    }


def summary(report: Mapping[str, Any]) -> str:
    """Returns the main metrics of a `value_report` as a few lines of text for the terminal.

    Example:
        >>> print(summary(value_report([1.0, 2.0, 6.0], [1.0, 3.0, 5.0], ["price"], train_targets=[2.0, 4.0])))
        MAE          0.6667  (baseline 2: the median of the training split, 3)
        RMSE         0.8165  (baseline 2.16: the mean of the training split, 3)
        R2           0.8571
        bias         0
        measured on  3 examples
    """
    origin, count = report["baseline_from"], report["num_examples"]
    if len(report["targets"]) == 1:
        base, always = report["baseline"], f"of the {origin}"
        lines = [
            f"MAE          {with_interval(report, 'mae', '.4g')}  "
            f"(baseline {short_number(base['mae'])}: the median {always}, {short_number(base['median'])})",
            f"RMSE         {with_interval(report, 'rmse', '.4g')}  "
            f"(baseline {short_number(base['rmse'])}: the mean {always}, {short_number(base['mean'])})",
            *([] if report["r2"] is None else [f"R2           {with_interval(report, 'r2')}"]),
            f"bias         {short_number(report['bias'])}",
        ]
    else:
        lines = _table(report["targets"])
        lines.append(f"in brackets: always the median (MAE) or the mean (RMSE) of the {origin}")
        if report["r2"] is not None:
            lines.append(f"R2           {with_interval(report, 'r2')}, mean over the targets")
    lines += of_quantiles.lines(report)
    return "\n".join([*lines, f"measured on  {count:,} example{'s' * (count != 1)}"])


def _table(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each of the first targets, below a line with the names of the metrics."""
    rows = [["target", "MAE", "", "RMSE", "", "R2", "bias"]]
    for target in targets[:_MOST_LINES]:
        base, r2 = target["baseline"], target["r2"]
        errors = [
            short_number(target["mae"]),
            f"({short_number(base['mae'])})",
            short_number(target["rmse"]),
            f"({short_number(base['rmse'])})",
        ]
        rows.append([target["name"], *errors, "" if r2 is None else f"{r2:.4f}", short_number(target["bias"])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return lines + [f"... {len(targets) - _MOST_LINES} more"] * (len(targets) > _MOST_LINES)


def _figures(name: str, true: Array, guessed: Array, weight: Array, train: Array) -> dict[str, Any]:
    """Returns the metrics of one target, and those of its baseline."""

    def mean(values: Array) -> float:
        return float(np.average(values, weights=weight))

    def r2(error: Array) -> float | None:
        spread = mean((true - mean(true)) ** 2)
        return 1 - mean(error**2) / spread if spread > 0 else None

    train = train[np.isfinite(train)]
    center, median = float(train.mean()), float(np.median(train))
    error = guessed - true
    return {
        "name": name,
        "count": len(true),
        "mae": mean(np.abs(error)),
        "rmse": float(np.sqrt(mean(error**2))),
        "r2": r2(error),
        "bias": mean(error),
        "baseline": {
            "mean": center,
            "median": median,
            "mae": mean(np.abs(median - true)),
            "rmse": float(np.sqrt(mean((center - true) ** 2))),
            "r2": r2(center - true),
        },
    }


def value_intervals(
    targets: ArrayLike,
    predictions: ArrayLike,
    names: Sequence[str],
    *,
    weights: ArrayLike | None = None,
    levels: Sequence[float] = (),
    quantiles: ArrayLike | None = None,
) -> dict[str, list[float]]:
    """Returns 95 % bootstrap intervals of `mae`, `rmse` and `r2` of the only target, or of `r2` and the `mae of NAME` of
    several targets; with `levels` also of the metrics of quantiles. The arguments are those of `value_report`."""
    true, guessed, weight = _checked(targets, predictions, names, weights)
    predicted = None if quantiles is None else of_quantiles.checked(quantiles, levels, true.shape, weight)
    true, guessed = (np.where(weight > 0, part, 0.0) for part in (true, guessed))
    if predicted is not None:
        predicted = np.where(weight[..., np.newaxis] > 0, predicted, 0.0)
    error, centered = guessed - true, true - np.average(true, axis=0, weights=weight)

    def statistics(counts: Array) -> dict[str, Array]:
        absolute, squared, center, spread = (
            np.stack([mean(counts, part[:, j] * weight[:, j], weight[:, j]) for j in range(len(names))])
            for part in (np.abs(error), error**2, centered, centered**2)
        )  # each (targets, samples)
        variance = spread - center**2
        r2 = 1 - np.divide(squared, variance, out=np.full_like(squared, np.nan), where=variance > 0)
        more: dict[str, Array] = {}
        for j, name in enumerate(names):
            if predicted is not None:
                found = of_quantiles.statistics(counts, true[:, j], predicted[:, j], weight[:, j], levels)
                more |= {key if len(names) == 1 else f"{key} of {name}": part for key, part in found.items()}
        if len(names) == 1:
            return {"mae": absolute[0], "rmse": np.sqrt(squared[0]), "r2": r2[0], **more}
        average = np.ma.masked_invalid(r2).mean(axis=0).filled(np.nan)
        return {"r2": average, **{f"mae of {name}": row for name, row in zip(names, absolute, strict=True)}, **more}

    return bootstrap(len(true), statistics)


def _samples(true: Array, guessed: Array, weight: Array, band: Array | None) -> dict[str, list[float]]:
    real = np.flatnonzero(weight)
    chosen = real[np.unique(np.linspace(0, len(real) - 1, min(len(real), MOST_SAMPLES)).round().astype(int))]
    parts = {"true": true, "predicted": guessed, **({} if band is None else {"low": band[:, 0], "high": band[:, 1]})}
    return {name: part[chosen].tolist() for name, part in parts.items()}


def _columns(values: Array) -> Array:
    return values[:, np.newaxis] if values.ndim == 1 else values


def _checked(
    targets: ArrayLike, predictions: ArrayLike, names: Sequence[str], weights: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Checks the arguments; returns targets, predictions and weights, each `(n, targets)`."""
    true, guessed = (_columns(np.asarray(part, np.float64)) for part in (targets, predictions))
    if true.ndim != 2 or not true.size or guessed.shape != true.shape:
        raise UsageError(
            f"targets have shape {true.shape}, predictions {guessed.shape}; expected (n, targets) for both, with at least "
            "one of each. Pass one prediction for every target of every example."
        )
    if len(names) != true.shape[1]:
        raise UsageError(f"There are {true.shape[1]} targets and {len(names)} names. Pass one name for every target.")
    weight = np.ones(true.shape) if weights is None else _columns(np.asarray(weights, np.float64))
    if weight.shape not in (true.shape, (len(true), 1)) or not np.isfinite(weight).all() or weight.min() < 0:
        raise UsageError(
            f"weights have shape {weight.shape}; expected finite numbers that are not negative, one per example or in the "
            f"shape of targets, {true.shape}. Pass 0 for a missing value, 1 for a real one."
        )
    weight = np.broadcast_to(weight, true.shape)
    for what, values in (("targets", true), ("predictions", guessed)):
        bad = ~np.isfinite(values) & (weight > 0)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise UsageError(
                f"{what} hold {values[row, column]} at example {row} for {names[column]!r}; expected finite numbers. Look "
                "for missing values in the data, or for the first epoch whose loss is not finite."
            )
    return true, guessed, weight


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    targets, predictions, weights = predict_split(model, data, split, batch_size)
    scale = getattr(data.preprocessor, "targets", None)
    true, guessed = (
        _columns(np.asarray(part if scale is None else scale.unscale(part)))
        for part in (targets["value"], predictions["values"])
    )
    names = _names(data, true.shape[1])
    # Other data for a run whose own cannot be loaded has no training split.
    train = None
    if "train" in data.data.splits:
        read = data.data.splits["train"].dataset().map(lambda example: example["value"])
        train = np.concatenate(list(read.batch(1_024).as_numpy_iterator()))
    if data.objective.quantiles:
        found = copies.decided(model)
        predictions = {**predictions, "quantiles": np.asarray(calibrated(predictions["quantiles"], found))}
    more = {"weights": weights.get("value"), **_quantiles(data, predictions, scale)}
    report = value_report(true, guessed, names, train_targets=train, **more)
    if data.objective.quantiles:
        report["quantiles_from"] = "calibrated on the validation split" if SHIFTS in found else "not calibrated"
    return {**report, "intervals": value_intervals(true, guessed, names, **more)}


def _measure(data: Prepared, examples: Mapping[str, Any], predictions: Mapping[str, Any]) -> Report:
    """Returns the report of a baseline's values for raw examples."""
    true = _columns(examples["value"])
    known = np.isfinite(true)
    more = {"weights": known, **_quantiles(data, predictions, None)}
    return value_report(np.where(known, true, 0.0), predictions["values"], _names(data, true.shape[1]), **more)


def _quantiles(data: Prepared, predictions: Mapping[str, Any], scale: Any) -> dict[str, Any]:
    """Returns the arguments `levels` and `quantiles` of `value_report`; nothing for predictions without quantiles.

    `scale` has `unscale`, which makes numbers in their own units; None for predictions that are.
    """
    if not data.objective.quantiles or "quantiles" not in predictions:
        return {}
    found = predictions["quantiles"]
    return {"levels": data.objective.quantiles, "quantiles": found if scale is None else scale.unscale(found)}


def _names(data: Prepared, count: int) -> list[str]:
    return list(data.data.about.get("value_names") or (f"value {number}" for number in range(1, count + 1)))


def _headline(report: Report) -> list[Figure]:
    """Returns MAE, RMSE and R2 of the only target; R2 and the MAE of each of several targets."""
    r2, base = report["r2"], report.get("baseline", {})
    if len(report["targets"]) == 1:
        figures = [
            Figure("MAE", report["mae"], "the median", base["mae"], key="mae", higher_is_better=False),
            Figure("RMSE", report["rmse"], "the mean", base["rmse"], key="rmse", higher_is_better=False),
        ]
        figures += [] if r2 is None else [Figure("R2", r2, "the mean", base["r2"], key="r2")]
        return [*figures, *of_quantiles.headline(report["targets"][0])]
    known = [target["baseline"]["r2"] for target in report["targets"] if target["r2"] is not None]
    figures = [Figure("mean R2", r2, "the mean", sum(known) / len(known), key="r2")] if known else []
    for target in report["targets"]:
        name, known = target["name"], target["baseline"]["mae"]
        metric, key = f"MAE of {name}", f"mae of {name}"
        figures.append(
            Figure(metric, target["mae"], "the median", known, target["count"], key=key, higher_is_better=False)
        )
        figures += of_quantiles.headline(target, name)
    return figures


_PLOTS = {
    "predicted": value_plots.plot_predicted,
    "residuals": value_plots.plot_residuals,
    "quantiles": value_plots.plot_quantiles,
}

register_report("values", ReportKind(_compute, summary, _headline, _PLOTS, _measure))
