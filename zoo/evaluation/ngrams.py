"""A model of the next token that knows the tokens just before: n-grams that back off to shorter ones."""

from __future__ import annotations

import numpy as np


class Ngrams:
    """Probabilities of the next token after up to n - 1 tokens, from counts of a training stream.

    A longer context is trusted the more, the fewer different tokens followed it: P(w | h) = (c(h, w) + t(h) P(w | h')) /
    (c(h) + t(h)), where c counts, t is the number of different tokens after h, and h' is h without its first token. The
    shortest one is uniform over the vocabulary. Source: Witten and Bell, The zero-frequency problem, 1991.

    Args:
        stream: tokens, integers (tokens,).
        size: number of tokens of the vocabulary.
        n: number of tokens of the longest n-gram.

    Example:
        >>> Ngrams(np.array([0, 1, 0, 1, 0, 1]), size=2, n=2).probabilities(np.array([0, 1, 0])).round(2)
        array([0.88, 0.88])
    """

    def __init__(self, stream: np.ndarray, size: int, n: int = 5) -> None:
        self.size, self.n = size, n
        self._grams: list[tuple[np.ndarray, np.ndarray]] = []
        self._contexts: list[tuple[np.ndarray, np.ndarray]] = []
        stream = np.asarray(stream, np.int64)
        label = np.zeros(len(stream), np.int64)  # the number of the context before each token
        for order in range(n):
            keys = label[order:] * size + stream[order:]
            grams, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
            self._grams.append((grams, counts))
            contexts = grams // size
            totals = np.bincount(contexts, weights=counts)
            self._contexts.append((totals, np.bincount(contexts)))
            label = np.concatenate([np.zeros(order + 1, np.int64), which[:-1]]) if len(which) else label

    def probabilities(self, stream: np.ndarray) -> np.ndarray:
        """Returns the probability of every token of a stream but the first, given those before it, float64 (tokens - 1,)."""
        stream = np.asarray(stream, np.int64)
        found = np.full(len(stream), 1.0 / self.size)
        label = np.zeros(len(stream), np.int64)
        for order in range(self.n):
            grams, counts = self._grams[order]
            totals, kinds = self._contexts[order]
            reachable = np.arange(len(stream)) >= order
            known = reachable & (label >= 0) & (label < len(totals))
            context = np.where(known, label, 0)
            keys = context * self.size + stream
            place = np.minimum(np.searchsorted(grams, keys), len(grams) - 1)
            seen = known & (grams[place] == keys)
            total, different = totals[context], kinds[context]
            with np.errstate(invalid="ignore"):
                mixed = (np.where(seen, counts[place], 0) + different * found) / (total + different)
            found = np.where(known & (total > 0), mixed, found)
            following = np.where(seen, place, -1)
            label = np.concatenate([[-1], following[:-1]])
        return found[1:]
