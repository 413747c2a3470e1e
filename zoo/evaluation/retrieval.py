"""Report of text embeddings: how often the nearest text belongs to the same label or pair, next to TF-IDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import UsageError
from zoo.evaluation.intervals import bootstrap, mean, with_interval
from zoo.evaluation.prediction import predict_split
from zoo.evaluation.reports import Figure, Report, ReportKind, raw_examples, register_report

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

DEPTH = 10
_CELLS = 20_000_000
"""Similarities that are held at once: 80 MB."""


def retrieval_report(labels: ArrayLike, vectors: Any) -> dict[str, Any]:
    """Searches every text in all other texts of a split, by the cosine of their vectors.

    Texts whose label no other text has are searched in, and do not count themselves. Of equal cosines the text that comes
    first is nearer.

    Args:
        labels: integers (texts,): equal for texts that belong together.
        vectors: floats (texts, dim), an array or a sparse matrix of SciPy.

    Returns:
        `num_examples`, the texts that count; `recall_at_1`, the share whose nearest text has the same label; `recall_at_10`,
        the share with such a text among the nearest ten; `mrr`, the mean of 1 / rank of the first such text, 0 beyond ten.
        `intervals` has their 95 % bootstrap intervals.

    Raises:
        UsageError: no two texts have the same label, or the arrays have different lengths.

    Example:
        >>> vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
        >>> retrieval_report([0, 0, 1, 1], vectors)["recall_at_1"]
        1.0
    """
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or vectors.shape[0] != len(numbers):
        raise UsageError(
            f"received labels {numbers.shape} and vectors {vectors.shape}; expected a vector for each label. Pass arrays of "
            "the same length."
        )
    _, group, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    searched = np.flatnonzero(sizes[group] > 1)
    if not len(searched):
        raise UsageError(
            "No two texts of the split have the same label. Pass more texts of each label, or other pairs."
        )
    ranks = _first_ranks(numbers, _unit(vectors), searched)
    per_text = {
        "recall_at_1": ranks == 1,
        "recall_at_10": ranks <= DEPTH,
        "mrr": np.where(ranks <= DEPTH, 1 / ranks, 0.0),
    }
    return {
        "num_examples": len(searched),
        **{name: float(np.mean(values)) for name, values in per_text.items()},
        "intervals": bootstrap(
            len(searched), lambda counts: {name: mean(counts, values) for name, values in per_text.items()}
        ),
    }


def _unit(vectors: Any) -> Any:
    """Returns vectors of length 1; a vector of zeros stays as it is."""
    if hasattr(vectors, "multiply"):  # sparse
        lengths = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
        return vectors.multiply(1 / np.maximum(lengths, 1e-12)[:, np.newaxis]).tocsr()
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _first_ranks(labels: NDArray[Any], vectors: Any, searched: NDArray[Any]) -> NDArray[Any]:
    """The rank of the first text with the same label, 1 for the nearest, of each text that is searched."""
    at_once, ranks = max(1, _CELLS // len(labels)), []
    for start in range(0, len(searched), at_once):
        rows = searched[start : start + at_once]
        scores = vectors[rows] @ vectors.T
        scores = scores.toarray() if hasattr(scores, "toarray") else scores
        here = np.arange(len(rows))
        scores[here, rows] = -np.inf
        alike = labels[rows][:, np.newaxis] == labels
        alike[here, rows] = False
        place = np.where(alike, scores, -np.inf).argmax(axis=1)  # of equal scores the first
        best = scores[here, place][:, np.newaxis]
        before = np.arange(len(labels)) < place[:, np.newaxis]
        ranks.append(1 + np.sum((scores > best) | ((scores == best) & before), axis=1))
    return np.concatenate(ranks)


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    targets, predictions, _ = predict_split(model, data, split, batch_size)
    texts = [example["text"].decode("utf-8", "replace") for example in raw_examples(data, split)]
    report = retrieval_report(targets["label"], predictions["embedding"])
    return {**report, "baseline": {"name": "TF-IDF of words", **_words(texts, targets["label"])}}


def _words(texts: Sequence[str], labels: NDArray[Any]) -> dict[str, float]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float32)
    try:
        vectors = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        vectors = np.zeros((len(texts), 1), np.float32)
    found = retrieval_report(labels, vectors)
    return {name: found[name] for name in ("recall_at_1", "recall_at_10", "mrr")}


def summary(report: Mapping[str, Any]) -> str:
    """Returns the metrics in a few lines.

    Example:
        >>> figures = {"recall_at_1": 0.9, "recall_at_10": 1.0, "mrr": 0.95}
        >>> print(summary({**figures, "num_examples": 80, "baseline": {"name": "TF-IDF of words", **figures}}))
        recall at 1   0.9000  (TF-IDF of words 0.9000)
        recall at 10  1.0000  (1.0000)
        MRR at 10     0.9500  (0.9500)
        measured on   80 texts, each searched in all others
    """
    base = report["baseline"]
    return "\n".join(
        [
            f"recall at 1   {with_interval(report, 'recall_at_1')}  ({base['name']} {base['recall_at_1']:.4f})",
            f"recall at 10  {with_interval(report, 'recall_at_10')}  ({base['recall_at_10']:.4f})",
            f"MRR at 10     {with_interval(report, 'mrr')}  ({base['mrr']:.4f})",
            f"measured on   {report['num_examples']:,} texts, each searched in all others",
        ]
    )


def _headline(report: Report) -> list[Figure]:
    base = report["baseline"]
    names = {"recall_at_1": "recall at 1", "recall_at_10": "recall at 10", "mrr": "MRR at 10"}
    return [Figure(title, report[key], base["name"], base[key], key=key) for key, title in names.items()]


register_report("retrieval", ReportKind(_compute, summary, _headline))
