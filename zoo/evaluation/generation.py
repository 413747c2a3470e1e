"""Report of language models: loss, bits per byte and perplexity of a split, beside 5-grams, and the first generated texts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError
from zoo.evaluation.intervals import bootstrap, mean, with_interval
from zoo.evaluation.ngrams import Ngrams
from zoo.evaluation.reports import Figure, Report, ReportKind, raw_examples, register_report
from zoo.kernels import traced
from zoo.registry import get_spec
from zoo.tasks import call_model

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

_VALUES = 1 << 25
"""Most probabilities that are computed at once."""
_MOST_TOKENS = 20_000_000
"""Training tokens that the 5-grams count."""
_NGRAM = 5
_BASELINE = f"{_NGRAM}-gram model"
_SEEDS = 3


def language_report(losses: np.ndarray, right: np.ndarray, sizes: np.ndarray, *, words: int) -> dict[str, Any]:
    """Evaluates the probabilities of all tokens of a split.

    Args:
        losses: minus the logarithm of each token's probability, in nats, (tokens,).
        right: whether each token was the most probable one, (tokens,).
        sizes: number of bytes of each token, (tokens,).
        words: number of words of the texts, separated by white space.

    Returns:
        `loss`, its mean; `perplexity`, its exponential; `accuracy`; and what also compares with models that have other
        tokens: `bits_per_byte`, and `word_perplexity`, the exponential of the loss of a word.

    Raises:
        UsageError: there is no token.

    Example:
        >>> language_report(np.log([2.0, 2.0]), np.array([True, False]), np.array([1, 1]), words=1)["bits_per_byte"]
        1.0
    """
    if not len(losses):
        raise UsageError("The split has no token to predict. Pass texts.")
    total = float(losses.sum(dtype=np.float64))
    loss = total / len(losses)
    return {
        "loss": loss,
        "perplexity": _exponential(loss),
        "accuracy": float(np.mean(right)),
        "bits_per_byte": total / np.log(2) / max(int(sizes.sum()), 1),
        "word_perplexity": _exponential(total / max(words, 1)),
    }


def _exponential(value: float) -> float:
    return float(np.exp(min(value, 700.0)))  # beyond, the exponential is infinite, which JSON cannot hold


def summary(report: Mapping[str, Any]) -> str:
    """Returns the main metrics as a line of text.

    Example:
        >>> figures = {"loss": 1.5, "perplexity": 4.4817, "accuracy": 0.5, "bits_per_byte": 2.16, "word_perplexity": 900.0}
        >>> summary({**figures, "num_tokens": 80, "baseline": {"name": "5-gram model", **figures}})
        'loss 1.5000, perplexity 4.48, 2.160 bits per byte at 80 tokens (5-gram model: loss 1.5000, 2.160 bits per byte)'
    """
    base = report["baseline"]
    return (
        f"loss {with_interval(report, 'loss')}, perplexity {report['perplexity']:.2f}, "
        f"{report['bits_per_byte']:.3f} bits per byte at {report['num_tokens']:,} tokens "
        f"({base['name']}: loss {base['loss']:.4f}, {base['bits_per_byte']:.3f} bits per byte)"
    )


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    preprocessor: Any = data.preprocessor
    sizes = np.array([*(len(piece) for piece in preprocessor.tokens.pieces), 0])
    rows = max(1, min(batch_size, _VALUES // (preprocessor.max_length * len(sizes))))

    @functools.partial(traced, autograph=False)
    def predicted(inputs: Mapping[str, tf.Tensor], following: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = call_model(model, inputs)
        if "logits" in outputs:
            likely = tf.nn.log_softmax(tf.cast(outputs["logits"], tf.float32))
        else:
            likely = tf.math.log(outputs["probabilities"])
        best = tf.argmax(likely, axis=-1, output_type=tf.int32)
        return -tf.gather(likely, following, axis=-1, batch_dims=2), best == following

    columns: list[list[np.ndarray]] = [[], [], [], []]
    windows = 0
    for inputs, targets, weights in data.batches(split, rows):
        real, following = weights["next"].numpy() > 0, targets["next"]
        numbers = tf.broadcast_to(tf.range(windows, windows + len(real))[:, tf.newaxis], real.shape)
        for column, part in zip(columns, (following, *predicted(inputs, following), numbers), strict=True):
            column.append(part.numpy()[real])
        windows += len(real)
    tokens, losses, right, window = (np.concatenate(column) for column in columns)
    words = sum(len(example["text"].decode("utf-8", "replace").split()) for example in raw_examples(data, split))
    report = language_report(losses, right, sizes[tokens], words=words)
    known = Ngrams(_stream(data, "train")[:_MOST_TOKENS], len(sizes), _NGRAM)
    chances = known.probabilities(_stream(data, split))
    baseline = language_report(-np.log(chances), np.zeros(len(chances)), sizes[tokens], words=words)
    baseline = {"name": _BASELINE, **{key: baseline[key] for key in baseline if key != "accuracy"}}
    samples = _samples(model, data, split)
    intervals = window_intervals(losses, right, window, sizes[tokens])
    return {**report, "num_tokens": len(tokens), "baseline": baseline, "intervals": intervals, "generated": samples}


def _stream(data: Prepared, split: str) -> np.ndarray:
    """Returns the tokens of a split, in order."""
    parts: list[np.ndarray] = []
    for inputs, targets, weights in data.batches(split, 256):
        if not parts:
            parts.append(inputs["token_ids"].numpy()[0, :1])
        parts.append(targets["next"].numpy()[weights["next"].numpy() > 0])
    return np.concatenate(parts)


def window_intervals(
    losses: np.ndarray, right: np.ndarray, windows: np.ndarray, sizes: np.ndarray
) -> dict[str, list[float]]:
    """Returns 95 % bootstrap intervals of `loss`, `accuracy` and `bits_per_byte`. The tokens of a window are drawn together.

    Args:
        losses: as in `language_report`, like `right` and `sizes`.
        right: whether each token was the most probable one.
        windows: the number of the window of each token, (tokens,).
        sizes: number of bytes of each token.

    Example:
        >>> window_intervals(np.ones(2), np.ones(2), np.array([0, 1]), np.ones(2))
        {}
    """
    count = int(windows.max()) + 1
    loss, hits, number, size = (
        np.bincount(windows, values.astype(np.float64), count)
        for values in (losses, right, np.ones(len(losses)), sizes)
    )

    def statistics(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "loss": mean(counts, loss, number),
            "accuracy": mean(counts, hits, number),
            "bits_per_byte": mean(counts, loss / np.log(2), size),
        }

    return bootstrap(count, statistics)


def _samples(model: keras.Model, data: Prepared, split: str) -> list[dict[str, Any]]:
    """Returns what the model writes after the first words of a split, with the first seeds: none is chosen."""
    preprocessor: Any = data.preprocessor
    head = get_spec(data.model).functions["sample"](model)
    first = next(iter(data._splits.split(split).dataset().take(1).as_numpy_iterator()))
    prompt = preprocessor.to_requests([first])["text"][0]
    inputs, extras = preprocessor.serve({"text": tf.constant([prompt] * _SEEDS)})
    extras["seed"] = tf.range(_SEEDS, dtype=tf.int64)
    texts = preprocessor.to_text(head(inputs, extras)["tokens"]).numpy()
    return [
        {"prompt": prompt.decode("utf-8", "replace"), "seed": seed, "text": text.decode("utf-8", "replace")}
        for seed, text in enumerate(texts)
    ]


def _headline(report: Report) -> list[Figure]:
    base, count = report["baseline"], report["num_tokens"]
    return [
        Figure("loss", report["loss"], base["name"], base["loss"], count, "loss", False),
        Figure(
            "bits per byte", report["bits_per_byte"], base["name"], base["bits_per_byte"], count, "bits_per_byte", False
        ),
    ]


register_report("text_generation", ReportKind(_compute, summary, _headline))
