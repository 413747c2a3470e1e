"""Report of masked language models: loss, perplexity and accuracy at the masks, next to a frequency baseline."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError
from zoo.evaluation.intervals import bootstrap, mean, sums, with_interval
from zoo.evaluation.reports import Figure, Report, ReportKind, register_report
from zoo.kernels import traced
from zoo.tasks import call_model

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

_LEAST = 1e-30
"""Smallest probability in logarithms, because float32 has no smaller one."""


def masked_language_report(
    targets: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, *, train_counts: np.ndarray
) -> dict[str, Any]:
    """Evaluates a model at masks, next to a baseline that knows only the frequency of each token.

    The baseline's probability of a token is its share of the training split, with 1 added to each count. It predicts the
    most frequent token.

    Args:
        targets: the tokens behind the masks, integers (masks,).
        probabilities: the model's probabilities of those tokens, (masks,).
        predicted: the model's most probable tokens, (masks,).
        train_counts: the count of each token in the training split, (vocabulary,).

    Returns:
        `loss` (mean cross-entropy in nats), `perplexity` (its exponential), `accuracy`, `num_pieces`, and `baseline` with the
        same three metrics.

    Raises:
        UsageError: there are no masks, or arrays have different lengths.

    Example:
        >>> report = masked_language_report(np.array([0, 1]), np.array([0.5, 0.5]), np.array([0, 0]), train_counts=np.ones(2))
        >>> round(report["perplexity"], 3), report["accuracy"]
        (2.0, 0.5)
    """
    if not len(targets) == len(probabilities) == len(predicted):
        raise UsageError(
            f"received {len(targets)} targets, {len(probabilities)} probabilities and {len(predicted)} predictions; "
            "expected the same number of each. Pass arrays of the same length."
        )
    if not len(targets):
        raise UsageError("The split has no token that can be masked. Pass texts with words in them.")
    shares = (train_counts + 1.0) / (train_counts + 1.0).sum()
    baseline = _figures(targets, shares[targets], np.full(len(targets), train_counts.argmax()))
    return {
        **_figures(targets, probabilities, predicted),
        "num_pieces": len(targets),
        "baseline": {"name": "frequency of each token", **baseline},
    }


def _figures(targets: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    loss = float(-np.log(np.maximum(probabilities.astype(np.float64), _LEAST)).mean())
    return {"loss": loss, "perplexity": float(np.exp(loss)), "accuracy": float((predicted == targets).mean())}


def summary(report: Mapping[str, Any]) -> str:
    """Returns the main metrics as a line of text.

    Example:
        >>> figures = {"loss": 2.0, "perplexity": 7.389, "accuracy": 0.5}
        >>> summary({**figures, "num_pieces": 80, "baseline": figures})
        'loss 2.0000, perplexity 7.39, accuracy 0.5000 at 80 masks (by frequency: perplexity 7.39, accuracy 0.5000)'
    """
    base = report["baseline"]
    return (
        f"loss {report['loss']:.4f}, perplexity {with_interval(report, 'perplexity', '.2f')}, "
        f"accuracy {with_interval(report, 'accuracy')} at {report['num_pieces']:,} masks "
        f"(by frequency: perplexity {base['perplexity']:.2f}, "
        f"accuracy {base['accuracy']:.4f})"
    )


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    preprocessor: Any = data.preprocessor

    # Batch by batch, because the scores of all tokens at all masks of a split would not fit into memory.
    @functools.partial(traced, autograph=False)
    def predicted(inputs: Mapping[str, tf.Tensor], pieces: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        probabilities = data.task.prediction(call_model(model, inputs))["probabilities"]
        return tf.gather(probabilities, pieces, axis=-1, batch_dims=2), tf.argmax(probabilities, axis=-1)

    counts = np.zeros(len(preprocessor.vocabulary), np.int64)
    for inputs, targets, _ in data.batches("train", batch_size):
        ids = preprocessor.restore(inputs, targets)["token_ids"].numpy()[inputs["padding_mask"].numpy() != 0]
        counts += np.bincount(ids, minlength=len(counts))
    counts[preprocessor.never_asked] = 0
    columns: list[list[Any]] = [[], [], [], []]
    texts = 0
    for inputs, targets, weights in data.batches(split, batch_size):
        real, pieces = weights["pieces"].numpy() > 0, targets["pieces"]
        numbers = tf.broadcast_to(tf.range(texts, texts + len(real))[:, tf.newaxis], real.shape)
        for column, part in zip(columns, (pieces, *predicted(inputs, pieces), numbers), strict=True):
            column.append(part.numpy()[real])
        texts += len(real)
    true, chances, best, text = (np.concatenate(column) for column in columns)
    report = masked_language_report(true, chances, best, train_counts=counts)
    return {**report, "intervals": mask_intervals(true, chances, best, text)}


def mask_intervals(
    targets: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, texts: np.ndarray
) -> dict[str, list[float]]:
    """Returns 95 % bootstrap intervals of `perplexity` and `accuracy`. The masks of a text are drawn together.

    Args:
        targets: as in `masked_language_report`, like the next two.
        probabilities: the model's probabilities of the targets.
        predicted: the model's most probable tokens.
        texts: the number of the text of each mask, (masks,).

    Example:
        >>> mask_intervals(np.array([0, 1]), np.array([0.5, 0.5]), np.array([0, 0]), np.array([7, 9]))["accuracy"]
        [0.0, 1.0]
    """
    numbers, group = np.unique(texts, return_inverse=True)
    losses = -np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
    loss, right, sizes = (sums(part, group, len(numbers)) for part in (losses, predicted == targets, 1.0 + 0 * losses))

    def statistics(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"perplexity": np.exp(mean(counts, loss, sizes)), "accuracy": mean(counts, right, sizes)}

    return bootstrap(len(numbers), statistics)


def _headline(report: Report) -> list[Figure]:
    base, name, masks = report["baseline"], "frequency of each token", report["num_pieces"]
    return [
        Figure("perplexity", report["perplexity"], name, base["perplexity"], masks, "perplexity", False),
        Figure("accuracy", report["accuracy"], name, base["accuracy"], masks, "accuracy"),
    ]


register_report("masked_language", ReportKind(_compute, summary, _headline))
