"""Report of forecasts: errors in the quantity's unit, at every step ahead, next to naive forecasts.

It works on NumPy arrays and anything that converts to them. Every report includes naive forecasts, because a forecast is
useless if it does not beat the value of a week ago, however small its error looks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from zoo import copies
from zoo.display import short_number
from zoo.errors import UsageError
from zoo.evaluation import forecast_quantiles, regression_plots
from zoo.evaluation.intervals import bootstrap, mean, sums, with_interval
from zoo.evaluation.prediction import predict_split
from zoo.evaluation.quantiles import KEYS, widest
from zoo.evaluation.reports import Figure, Report, ReportKind, raw_examples, register_report
from zoo.tasks.quantiles import SHIFTS, calibrated

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

Array = NDArray[np.float64]


def regression_report(
    targets: ArrayLike,
    predictions: ArrayLike,
    *,
    naive: Mapping[str, ArrayLike] | None = None,
    unit: str = "",
    channel: str = "",
    levels: Sequence[float] = (),
    quantiles: ArrayLike | None = None,
    naive_quantiles: Mapping[str, ArrayLike] | None = None,
) -> dict[str, Any]:
    """Compares forecasts of several steps with the actual values.

    Args:
        targets: the actual values in the original unit, shape `(n, horizon)`, or `(n,)` for one step.
        predictions: the forecasts, in the same shape and unit.
        naive: naive forecasts by name, each in the same shape, such as those of `naive_forecasts`.
        unit: unit of the quantity, such as "bikes per hour".
        channel: the name of the quantity.
        levels: levels of forecast quantiles, ascending, between 0 and 1.
        quantiles: the forecast quantiles, `(n, horizon, levels)`; only with `levels`.
        naive_quantiles: those of naive forecasts, by name.

    Returns:
        A dict of plain strings, numbers and lists that `json.dumps(report, allow_nan=False)` accepts:

        - `num_examples`, `horizon`, `unit`, `channel`;
        - `mae`, `rmse`: mean absolute and root mean squared error over all steps; `mean_error`: mean of prediction minus
          target;
        - `mape`: mean of |error| / |target|, None if a target is 0; `smape`: mean of 2 |error| / (|target| +
          |prediction|), with 0 if both are 0, at most 2; both as fractions;
        - `r2`: 1 - squared error / squared distance of the targets from their mean, None if all targets are equal;
        - `mae_per_step`: the mean absolute error for 1 to horizon steps ahead;
        - `naive`: for every naive forecast `name`, `mae`, `rmse` and `mae_per_step`, the best by `mae` first;
        - `skill`: 1 - mae / the best naive mae. 0 is equal to it, 1 is perfect. None without a naive forecast, or if that is
          perfect;
        - with `quantiles` what `zoo.evaluation.forecast_quantiles.figures` returns, and its first three in `naive`.

    Raises:
        UsageError: shapes do not fit, there are no values, or numbers are not finite.

    sMAPE: Makridakis, Accuracy measures: theoretical and practical concerns, International Journal of Forecasting 9(4),
    1993.

    Example:
        >>> report = regression_report([[10, 12], [8, 6]], [[11, 12], [8, 5]], naive={"last": [[9, 9], [9, 9]]})
        >>> report["mae"], report["mae_per_step"], report["skill"]
        (0.5, [0.5, 0.5], 0.75)
    """
    true = _array("targets", targets)
    if true.ndim not in (1, 2) or not true.size:
        raise UsageError(
            f"targets have shape {true.shape}; expected (n, horizon) with at least one of each. Check that the split "
            "has examples."
        )
    guessed = _array("predictions", predictions, true.shape)
    baselines = {name: _array(f"naive[{name!r}]", values, true.shape) for name, values in (naive or {}).items()}
    true, guessed = (part.reshape(len(part), -1) for part in (true, guessed))
    error = guessed - true
    distance = np.abs(true) + np.abs(guessed)
    spread = float(np.sum((true - true.mean()) ** 2))

    def of_naive(name: str) -> dict[str, Any]:
        if name not in (naive_quantiles or {}):
            return {}
        found = forecast_quantiles.figures(true, (naive_quantiles or {})[name], levels)
        return {key: found[key] for key in KEYS if key in found}

    simple = sorted(
        (
            {"name": name, **_sizes(part.reshape(true.shape) - true), **of_naive(name)}
            for name, part in baselines.items()
        ),
        key=lambda figures: figures["mae"],
    )
    sizes = _sizes(error)
    best = simple[0]["mae"] if simple else 0.0
    return {
        "num_examples": len(true),
        "horizon": true.shape[1],
        "unit": unit,
        "channel": channel,
        **sizes,
        "mean_error": float(error.mean()),
        "mape": float(np.mean(np.abs(error) / np.abs(true))) if np.all(true != 0) else None,
        "smape": float(np.mean(np.divide(2 * np.abs(error), distance, out=np.zeros_like(error), where=distance > 0))),
        "r2": 1 - float(np.sum(error**2)) / spread if spread > 0 else None,
        "naive": simple,
        "skill": 1 - sizes["mae"] / best if best > 0 else None,
        **({} if quantiles is None else forecast_quantiles.figures(true, quantiles, levels)),
    }


def forecast_intervals(
    targets: ArrayLike,
    predictions: ArrayLike,
    levels: Sequence[float] = (),
    quantiles: ArrayLike | None = None,
) -> dict[str, list[float]]:
    """Returns the 95 % bootstrap interval of `mae`, with quantiles also of their metrics. Neighbouring windows overlap, so
    that their errors are alike: as many of them as the horizon has steps are drawn together.

    Args:
        targets: the actual values, shape `(n, horizon)`, the windows in the order of time.
        predictions: the forecasts, in the same shape.
        levels: levels of forecast quantiles.
        quantiles: the forecast quantiles, `(n, horizon, levels)`.

    Example:
        >>> list(forecast_intervals([[10], [8]], [[11], [8]]))
        ['mae']
    """
    true = np.asarray(targets, np.float64)
    error = np.abs(np.asarray(predictions, np.float64) - true)
    blocks = np.arange(len(error)) // error.shape[1]
    count = int(blocks[-1]) + 1
    total, sizes = sums(error.mean(axis=1), blocks, count), np.bincount(blocks).astype(np.float64)

    def statistics(counts: Array) -> dict[str, Array]:
        found = {"mae": mean(counts, total, sizes)}
        if quantiles is None:
            return found
        held = np.asarray(quantiles, np.float64)
        return {**found, **forecast_quantiles.block_means(counts, blocks, sizes, true, held, levels)}

    return bootstrap(count, statistics)


def naive_forecasts(series: ArrayLike, lags: Mapping[str, int], horizon: int) -> dict[str, Array]:
    """Returns forecasts without a model: the values one period earlier.

    The forecast of a step is the latest value of the window that is a whole number of periods earlier. A missing value
    (NaN) is replaced by an earlier period's value in the window, or else by the window's last known value, or else by the
    mean of all known values.

    Args:
        series: the quantity's windows, shape `(n, window)`, in the forecast's unit.
        lags: the period in steps, by a name such as "same hour yesterday".
        horizon: number of steps to forecast.

    Returns:
        By name, float64 `(n, horizon)`.

    Raises:
        UsageError: a window is shorter than a lag, a lag or horizon is below 1, or all values are missing.

    Example:
        >>> naive_forecasts([[1, 2, 3, 4, 5]], {"last": 1, "two ago": 2}, horizon=3)
        {'last': array([[5., 5., 5.]]), 'two ago': array([[4., 5., 4.]])}
    """
    windows = np.asarray(series, np.float64)
    if windows.ndim != 2:
        raise UsageError(f"series have shape {windows.shape}; expected (n, window). Pass only the first channel.")
    for name, count in {"horizon": horizon, **lags}.items():
        if count < 1:
            raise UsageError(f"{name} is {count}; expected at least 1 step. Pass {name!r} as a positive whole number.")
    length = windows.shape[1]
    for name, lag in lags.items():
        if lag > length:
            raise UsageError(
                f"The naive forecast {name!r} looks {lag} steps back; the window has {length}. Pass a window of at least "
                f"{lag} steps, or leave that forecast out."
            )
    known = np.isfinite(windows)
    if windows.size and not known.any():
        raise UsageError("Every value of the series is missing. Check the data set's first channel.")
    last = np.where(known, np.arange(length), -1).max(axis=1, initial=-1)  # (n,), -1 where nothing is known
    rest = np.where(last >= 0, windows[np.arange(len(windows)), last], windows[known].mean() if known.any() else 0.0)
    forecasts = {}
    for name, lag in lags.items():
        steps = np.empty((len(windows), horizon))
        for ahead in range(1, horizon + 1):
            latest = length - 1 + ahead - lag * math.ceil(ahead / lag)
            value = np.full(len(windows), np.nan)
            for place in range(latest, -1, -lag):
                value = np.where(np.isfinite(value), value, windows[:, place])
            steps[:, ahead - 1] = np.where(np.isfinite(value), value, rest)
        forecasts[name] = steps
    return forecasts


def summary(report: Mapping[str, Any]) -> str:
    """Returns the main metrics of a `regression_report` as a few lines of text for the terminal.

    Example:
        >>> naive = {"last": [[9, 9], [9, 9]]}
        >>> print(summary(regression_report([[10, 12], [8, 6]], [[11, 12], [8, 5]], naive=naive, unit="bikes")))
        MAE          0.5 bikes  (best simple method 2: last)
        RMSE         0.7071 bikes  (2.236)
        skill        75.0 % less error than the best simple method
        R2           0.9000
        MAPE         6.7 %
        sMAPE        6.9 %
        per step     0.5 one step ahead, 0.5 at step 2
        measured on  2 windows
    """
    unit = f" {report['unit']}" if report["unit"] else ""
    rivals = [*report["naive"], *(entry for entry in report.get("baselines", ()) if "mae" in entry)]
    best = min(rivals, key=lambda rival: rival["mae"]) if rivals else None
    lines = [
        f"MAE          {with_interval(report, 'mae', '.4g')}{unit}"
        + (f"  (best simple method {short_number(best['mae'])}: {best['name']})" if best else ""),
        f"RMSE         {short_number(report['rmse'])}{unit}" + (f"  ({short_number(best['rmse'])})" if best else ""),
    ]
    if best and best["mae"] > 0:
        skill = 1 - report["mae"] / best["mae"]
        lines.append(
            f"skill        {abs(skill):.1%} {'less' if skill >= 0 else 'more'} error than the best simple method"
        )
    if report["r2"] is not None:
        lines.append(f"R2           {report['r2']:.4f}")
    lines += [
        f"{label:13}{report[key]:.1%}"
        for label, key in (("MAPE", "mape"), ("sMAPE", "smape"))
        if report[key] is not None
    ]
    steps = report["mae_per_step"]
    if len(steps) > 1:
        lines.append(
            f"per step     {short_number(steps[0])} one step ahead, {short_number(steps[-1])} at step {len(steps)}"
        )
    lines = [line.replace("%", " %") for line in lines] + forecast_quantiles.lines(report)
    count = report["num_examples"]
    return "\n".join([*lines, f"measured on  {count:,} window{'s' * (count != 1)}"])


def _sizes(error: Array) -> dict[str, Any]:
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae_per_step": [float(step) for step in np.abs(error).mean(axis=0)],
    }


def _array(name: str, values: ArrayLike, shape: tuple[int, ...] | None = None) -> Array:
    array = np.asarray(values, np.float64)
    if shape is not None and array.shape != shape:
        raise UsageError(
            f"{name} have shape {array.shape}, targets {shape}. Pass one forecast for every step of every window."
        )
    bad = ~np.isfinite(array)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UsageError(
            f"{name} hold {array[place]} at index {list(place)}; expected finite numbers. Look for missing values in the "
            "data, or for the first epoch whose loss is not finite."
        )
    return array


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    _, scaled, _ = predict_split(model, data, split, batch_size)
    preprocessor: Any = data.preprocessor
    examples = list(raw_examples(data, split))
    targets = np.stack([e["forecast"] for e in examples])
    series = np.stack([e["series"] for e in examples])
    requests = preprocessor.to_requests(examples)
    _, extras = preprocessor.serve({"series": tf.constant(requests["series"])})
    predictions, history = np.asarray(preprocessor.unscale(scaled["values"], extras)), series[..., 0]
    about = data.data.about
    lags = {"the last value": 1, **about.get("naive", {})}
    lags = {name: lag for name, lag in lags.items() if lag <= history.shape[1]}
    facts = {"unit": about.get("unit", ""), "channel": next(iter(about.get("channels", [""])))}
    naive = naive_forecasts(history, lags, targets.shape[1])
    levels, more, rivals = data.objective.quantiles, dict[str, Any](), dict[str, Any]()
    chosen = np.linspace(0, len(targets) - 1, 6).astype(int)[1:-1]
    samples = {"series": history[chosen], "targets": targets[chosen], "predictions": predictions[chosen]}
    if levels:
        decided = copies.decided(model)
        held = np.asarray(preprocessor.unscale(calibrated(scaled["quantiles"], decided), extras))
        more = {"levels": levels, "quantiles": held}
        rivals["naive_quantiles"] = _naive_quantiles(data, naive, lags, levels)
        if ends := widest(levels):
            samples |= {name: held[chosen][..., end] for name, end in zip(("low", "high"), ends, strict=True)}
    report = regression_report(targets, predictions, naive=naive, **facts, **rivals, **more)
    if levels:
        report["quantiles_from"] = "calibrated on the validation split" if SHIFTS in decided else "not calibrated"
    return {
        **report,
        "intervals": forecast_intervals(targets, predictions, **more),
        "samples": {name: part.astype(float).tolist() for name, part in samples.items()},
    }


def _naive_quantiles(
    data: Prepared, naive: Mapping[str, Array], lags: Mapping[str, int], levels: Sequence[float]
) -> dict[str, Array]:
    """Returns quantiles of naive forecasts, from their errors on the validation split; none without one."""
    split = data.data.splits.get("validation")
    if split is None or not split.num_examples:
        return {}
    examples = list(raw_examples(data, "validation"))
    true = np.stack([e["forecast"] for e in examples])
    known = naive_forecasts(np.stack([e["series"][:, 0] for e in examples]), lags, true.shape[1])
    return {name: forecast_quantiles.of_forecasts(naive[name], known[name], true, levels) for name in naive}


def measure(data: Prepared, examples: Mapping[str, Any], predictions: Mapping[str, Any]) -> Report:
    """Returns the report of a baseline's forecasts for raw examples."""
    found = predictions.get("quantiles")
    more = {} if found is None else {"levels": data.objective.quantiles, "quantiles": found}
    return regression_report(np.stack([*examples["forecast"]]), predictions["values"], **more)


def _plot_forecasts(report: Report, path: Path) -> None:
    facts = {name: report[name] for name in ("unit", "channel")}
    regression_plots.plot_forecasts(**report["samples"], path=path, **facts)


def _headline(report: Report) -> list[Figure]:
    metric = "MAE" + (f" ({report['unit']})" if report["unit"] else "")
    figure = Figure(metric, report["mae"], key="mae", higher_is_better=False)
    beside = [
        dataclasses.replace(figure, baseline=naive["name"], baseline_value=naive["mae"]) for naive in report["naive"]
    ]
    return [*(beside or [figure]), *forecast_quantiles.headline(report)]


_PLOTS = {"error_by_step": regression_plots.plot_error_by_step, "forecasts": _plot_forecasts}

register_report("regression", ReportKind(_compute, summary, _headline, _PLOTS, measure, revealing=("forecasts",)))
