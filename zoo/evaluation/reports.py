"""The kinds of report: how each is made of a model and its data, told in a few lines, drawn, and cut down to a headline."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.evaluation import (
    classification,
    language,
    plots,
    ranking,
    ranking_plots,
    regression,
    regression_plots,
    tagging,
    translation,
)
from zoo.evaluation.prediction import joined, predict_split
from zoo.registry import get_spec
from zoo.tasks import get_task, output_name

if TYPE_CHECKING:
    import keras

    from zoo.datasets.data import Prepared

Report = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of a report worth a line in a table, beside that of a baseline.

    Attributes:
        metric: its name, such as `accuracy`.
        value: the model's.
        baseline: what it is compared with, empty where there is nothing.
        baseline_value: the figure of that, None likewise.
        count: how many examples it is the mean of, None for all of the report's.
    """

    metric: str
    value: float
    baseline: str = ""
    baseline_value: float | None = None
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class ReportKind:
    """How a kind of report is made from (model, data, split, batch_size), told, drawn and cut down."""

    compute: Callable[[keras.Model, Prepared, str, int], Report]
    summary: Callable[[Mapping[str, Any]], str]
    plots: Mapping[str, Callable[[Report, Path], None]]
    headline: Callable[[Report], list[Figure]]


def raw_examples(data: Prepared, split: str) -> Iterator[dict[str, Any]]:
    """Yields a split's raw examples as NumPy values."""
    yield from data.data.splits[split].dataset().as_numpy_iterator()


# --- Classification --------------------------------------------------------------------------------------------------


def _classification(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    targets, probabilities, weights = predict_split(model, data, split, batch_size)
    steps = {}
    if probabilities.ndim == 3:  # an answer at every step: the one after the last step is judged
        right = (probabilities.argmax(axis=-1) == targets)[weights > 0]
        steps = {"step_accuracy": float(right.mean())}
        last = weights.shape[1] - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
        rows = np.arange(len(last))
        targets, probabilities, weights = targets[rows, last], probabilities[rows, last], None
    counts, names = data.target_counts("train"), data.data.class_names
    report = classification.classification_report(
        targets, probabilities, names, weights=weights, train_class_counts=counts
    )
    linear = _linear_baseline(data, split) if "series" in data.data.features else {}
    return {**report, **steps, **linear}


def _linear_baseline(data: Prepared, split: str) -> Report:
    """What a series' means alone tell: logistic regression on the mean of every channel."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def means(name: str) -> tuple[Any, Any]:
        examples = list(raw_examples(data, name))
        sums = [np.nansum(e["series"], axis=0) for e in examples]
        counts = [np.maximum((~np.isnan(e["series"])).sum(axis=0), 1) for e in examples]
        return np.array(sums) / np.array(counts), np.array([e["label"] for e in examples])

    if len(data.data.class_names) < 2:
        return {}
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*means("train"))
    return {
        "linear_baseline": {"name": "logistic regression on channel means", "accuracy": linear.score(*means(split))}
    }


def _classification_headline(report: Report) -> list[Figure]:
    base = report["baseline"]
    figures = [Figure("accuracy", report["accuracy"], "the most frequent class", base["accuracy"])]
    if "linear_baseline" in report:
        linear = report["linear_baseline"]
        figures = [Figure("accuracy", report["accuracy"], linear["name"], linear["accuracy"])]
    if len(report["per_class"]) == 2:
        found = report["per_class"][1]  # of two classes the second is the one that is looked for, as in ham and spam
        figures.append(Figure(f"F1 of {found['class_name']}", found["f1"]))
    return figures


def _classification_summary(report: Mapping[str, Any]) -> str:
    lines = [classification.summary(dict(report))]
    if "step_accuracy" in report:
        lines.append(f"step accuracy      {report['step_accuracy']:.4f}  over the answers after every step")
    if "linear_baseline" in report:
        linear = report["linear_baseline"]
        lines.append(f"beside             {linear['accuracy']:.4f}  {linear['name']}")
    return "\n".join(lines)


# --- Tagging ---------------------------------------------------------------------------------------------------------


def _tagging(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    targets, probabilities, weights = predict_split(model, data, split, batch_size)
    counts, names = data.target_counts("train"), data.data.class_names
    report = classification.classification_report(
        targets, probabilities, names, weights=weights, train_class_counts=counts
    )

    def sentences(name: str) -> tuple[list[list[str]], list[list[int]]]:
        examples = list(raw_examples(data, name))
        words = [[token.decode("utf-8", "replace") for token in e["tokens"]] for e in examples]
        return words, [e["tags"].tolist() for e in examples]

    tokens, tags = sentences(split)
    longest = weights.shape[1]  # longer sentences are cut by the preprocessor
    tokens, tags = [t[:longest] for t in tokens], [t[:longest] for t in tags]
    predicted = probabilities.argmax(axis=-1).tolist()
    dictionary = tagging.MostFrequentTag.fit(*sentences("train"))
    return {**report, "words": tagging.word_report(tokens, tags, predicted, dictionary)}


def _tagging_headline(report: Report) -> list[Figure]:
    name = "most frequent tag of each word"
    words = report["words"]
    figures = [Figure("token accuracy", report["accuracy"], name, words["all"]["baseline_accuracy"])]
    if words["unknown"]["num_words"]:
        unknown = words["unknown"]
        figures.append(
            Figure(
                "unknown word accuracy", unknown["accuracy"], name, unknown["baseline_accuracy"], unknown["num_words"]
            )
        )
    return figures


# --- Forecasting -----------------------------------------------------------------------------------------------------


def _regression(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    _, scaled, _ = predict_split(model, data, split, batch_size)
    preprocessor: Any = data.preprocessor
    examples = list(raw_examples(data, split))
    targets = np.stack([e["forecast"] for e in examples])
    series = np.stack([e["series"] for e in examples])
    _, extras = preprocessor.serve({"series": tf.constant(series)})
    predictions, history = np.asarray(preprocessor.unscale(scaled, extras)), series[..., 0]
    about = data.data.about
    lags = {k: n for k, n in about.get("naive", {"the last value": 1}).items() if n <= history.shape[1]}
    facts = {"unit": about.get("unit", ""), "channel": next(iter(about.get("channels", [""])))}
    naive = regression.naive_forecasts(history, lags, targets.shape[1])
    report = regression.regression_report(targets, predictions, naive=naive, **facts)
    chosen = np.linspace(0, len(targets) - 1, 6).astype(int)[1:-1]
    samples = {"series": history[chosen], "targets": targets[chosen], "predictions": predictions[chosen]}
    return {**report, "samples": {name: part.astype(float).tolist() for name, part in samples.items()}}


def _plot_forecasts(report: Report, path: Path) -> None:
    facts = {name: report[name] for name in ("unit", "channel")}
    regression_plots.plot_forecasts(**report["samples"], path=path, **facts)


def _regression_headline(report: Report) -> list[Figure]:
    unit = f" ({report['unit']})" if report["unit"] else ""
    return [Figure(f"MAE{unit}", report["mae"], naive["name"], naive["mae"]) for naive in report["naive"]] or [
        Figure(f"MAE{unit}", report["mae"])
    ]


# --- Translation -----------------------------------------------------------------------------------------------------


def _translation(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    # What `serving_default` answers is judged, not the next word given the right ones.
    preprocessor: Any = data.preprocessor
    head = get_spec(data.model).functions[get_task(data.task.name).signatures["serving_default"].head](model)

    @tf.function(reduce_retracing=True, input_signature=[tf.TensorSpec([None], tf.string)])
    def translate(texts: tf.Tensor) -> tf.Tensor:
        return preprocessor.to_text(head(*preprocessor.serve({"text": texts}))["token_ids"])

    def pairs(name: str) -> tuple[list[str], list[str]]:
        examples = list(raw_examples(data, name))
        return tuple([e[key].decode("utf-8", "replace") for e in examples] for key in ("text", "translation"))  # type: ignore[return-value]

    sources, references = pairs(split)
    # Of like lengths together: a batch costs what its longest sentence costs.
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    answers = [""] * len(sources)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        answered = translate(tf.constant([sources[i] for i in places])).numpy()
        for place, answer in zip(places, answered, strict=True):
            answers[place] = answer.decode("utf-8", "replace")
    train_sources, train_references = pairs("train")
    return translation.translation_report(
        sources, references, answers, train_sources=train_sources, train_references=train_references
    )


def _translation_headline(report: Report) -> list[Figure]:
    name = "translation of the nearest training sentence"
    return [
        Figure(metric, report[key], name, report["baseline"][key])
        for metric, key in (("BLEU", "bleu"), ("chrF", "chrf"))
    ]


# --- Masked language modelling ---------------------------------------------------------------------------------------


def _masked_language(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    preprocessor: Any = data.preprocessor
    name = output_name(model)

    # Batch by batch: a score for every piece at every blank of a split would not fit into memory.
    @tf.function(reduce_retracing=True)
    def judged(inputs: Any, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        probabilities = data.task.prediction({name: model(inputs, training=False)})
        return tf.gather(probabilities, targets, axis=-1, batch_dims=2), tf.argmax(probabilities, axis=-1)

    counts = np.zeros(len(preprocessor.vocabulary), np.int64)
    for inputs, targets, _ in data.batches("train", batch_size):
        ids = preprocessor.restore(inputs, targets)["token_ids"].numpy()[inputs["padding_mask"].numpy() != 0]
        counts += np.bincount(ids, minlength=len(counts))
    counts[preprocessor.never_asked] = 0
    columns: list[list[Any]] = [[], [], []]
    for inputs, targets, weights in data.batches(split, batch_size):
        real = weights.numpy() > 0
        for column, part in zip(columns, (targets, *judged(inputs, targets)), strict=True):
            column.append(part.numpy()[real])
    asked, chances, best = (np.concatenate(column) for column in columns)
    return language.masked_language_report(asked, chances, best, train_counts=counts)


def _masked_language_headline(report: Report) -> list[Figure]:
    base, name = report["baseline"], "frequency of each piece"
    return [
        Figure("perplexity", report["perplexity"], name, base["perplexity"], report["num_pieces"]),
        Figure("accuracy", report["accuracy"], name, base["accuracy"], report["num_pieces"]),
    ]


# --- Recommendation --------------------------------------------------------------------------------------------------


def _ranking(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    targets, predictions, _ = predict_split(model, data, split, batch_size)
    scores = tf.function(get_spec(data.model).functions["scores"](model), reduce_retracing=True)

    def table(users: Any) -> Any:
        return scores({"user_ids": tf.constant(users, tf.int32)}, {})["score"].numpy()

    def columns(name: str) -> dict[str, Any]:
        batches = [(inputs, ratings) for inputs, ratings, *_ in data.batches(name, 65_536)]
        ids = {key: joined([inputs[key].numpy() for inputs, _ in batches]) for key in ("user_ids", "item_ids")}
        return {**ids, "ratings": joined([ratings.numpy() for _, ratings in batches])}

    held_out = columns(split)
    return ranking.ranking_report(
        targets,
        predictions,
        user_ids=held_out["user_ids"],
        item_ids=held_out["item_ids"],
        train=columns("train"),
        scores=table,
        num_users=data.arguments["num_users"],
        num_items=data.arguments["num_items"],
        rating_range=data.data.about.get("rating_range"),
    )


def _ranking_headline(report: Report) -> list[Figure]:
    base = report["baseline"]
    figures = [Figure("RMSE", report["rmse"], "user and item biases", base["biases"]["rmse"])]
    popular = base["most_popular"]
    for metric, key in (("hit rate at 10", "hit_rate"), ("NDCG at 10", "ndcg")):
        if report[key] is not None:
            figures.append(Figure(metric, report[key], "most popular items", popular[key], report["num_users"]))
    return figures


_CLASS_PLOTS = {"confusion_matrix": plots.plot_confusion_matrix, "reliability": plots.plot_reliability}

REPORTS: dict[str, ReportKind] = {
    "classification": ReportKind(
        compute=_classification,
        summary=_classification_summary,
        plots=_CLASS_PLOTS,
        headline=_classification_headline,
    ),
    "tagging": ReportKind(
        compute=_tagging,
        summary=lambda report: f"{classification.summary(dict(report))}\n{tagging.summary(report['words'])}",
        plots=_CLASS_PLOTS,
        headline=_tagging_headline,
    ),
    "regression": ReportKind(
        compute=_regression,
        summary=regression.summary,
        plots={"error_by_step": regression_plots.plot_error_by_step, "forecasts": _plot_forecasts},
        headline=_regression_headline,
    ),
    "translation": ReportKind(
        compute=_translation, summary=translation.summary, plots={}, headline=_translation_headline
    ),
    "masked_language": ReportKind(
        compute=_masked_language, summary=language.summary, plots={}, headline=_masked_language_headline
    ),
    "ranking": ReportKind(
        compute=_ranking,
        summary=ranking.summary,
        plots={"rating_errors": ranking_plots.plot_rating_errors, "hit_rate": ranking_plots.plot_hit_rate},
        headline=_ranking_headline,
    ),
}
"""The kinds of report by the name that a task's `report` uses."""
