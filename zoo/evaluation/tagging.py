"""Report of a tagger: accuracy on known and unknown words, next to a most-frequent-tag baseline.

It works on plain lists: sentences as sequences of words, and tags of the same lengths. The metrics of every tag come from
`zoo.evaluation.classification`, which supports one class per step.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from zoo.errors import UsageError
from zoo.evaluation import classification
from zoo.evaluation.intervals import bootstrap, mean, with_interval
from zoo.evaluation.prediction import predict_split
from zoo.evaluation.reports import Figure, Report, ReportKind, raw_examples, register_report
from zoo.tasks.contract import call_model

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared


@dataclasses.dataclass(frozen=True)
class MostFrequentTag:
    """A baseline tagger: every word gets its most frequent tag in training.

    Attributes:
        tags: the most frequent tag of every word of the training split; ties go to the smallest.
        unknown: the tag of all other words: the most frequent tag of words that occur once in training.

    Example:
        >>> dictionary = MostFrequentTag.fit([["the", "dog"], ["the", "cat"]], [[0, 1], [0, 1]])
        >>> dictionary.tag(["the", "cow"])
        [0, 1]
    """

    tags: Mapping[str, int]
    unknown: int

    @classmethod
    def fit(cls, tokens: Sequence[Sequence[str]], tags: Sequence[Sequence[int]]) -> MostFrequentTag:
        """Counts the tags of every word of the training split.

        Raises:
            UsageError: sentences and tags have different lengths, or there are no words.
        """
        counts: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
        for word, tag in _pairs(tokens, tags):
            counts[word][tag] += 1
        if not counts:
            raise UsageError("The training sentences hold no word. Pass the tokens and tags of the training split.")
        once = collections.Counter(next(iter(c)) for c in counts.values() if c.total() == 1)
        every = sum(counts.values(), collections.Counter())
        return cls({word: _most_frequent(c) for word, c in counts.items()}, _most_frequent(once or every))

    def tag(self, words: Iterable[str]) -> list[int]:
        """Returns a tag for every word."""
        return [self.tags.get(word, self.unknown) for word in words]


def word_report(
    tokens: Sequence[Sequence[str]],
    tags: Sequence[Sequence[int]],
    predicted: Sequence[Sequence[int]],
    dictionary: MostFrequentTag,
) -> dict[str, Any]:
    """Evaluates predicted tags on words that occur in training and on unknown words.

    Args:
        tokens: words of every evaluated sentence, without padding.
        tags: the true tag numbers, as long as the words.
        predicted: the predicted tag numbers; those after a sentence's last word are ignored.
        dictionary: the baseline, fitted on the training split.

    Returns:
        A dict for JSON: `all`, `known`, `unknown`, each with `num_words`, `accuracy` and `baseline_accuracy` (None
        without such words); `sentences_right`: the fraction of sentences without any error.

    Raises:
        UsageError: lengths do not fit, or there are no words.

    Example:
        >>> dictionary = MostFrequentTag.fit([["the", "dog"]], [[0, 1]])
        >>> word_report([["the", "cow"]], [[0, 1]], [[0, 1]], dictionary)["unknown"]["accuracy"]
        1.0
    """
    if len(predicted) != len(tokens):
        raise UsageError(
            f"There are {len(tokens)} sentences and predictions for {len(predicted)}. Pass one row per sentence."
        )
    short = [i for i, (words, row) in enumerate(zip(tokens, predicted, strict=True)) if len(row) < len(words)]
    if short:
        raise UsageError(
            f"Sentence {short[0]} has {len(tokens[short[0]])} words and {len(predicted[short[0]])} predicted tags. "
            "Pass a tag for every word."
        )
    cut = [list(row[: len(words)]) for words, row in zip(tokens, predicted, strict=True)]
    # Per kind of word: the number of words, and the numbers that the model and the dictionary tag correctly.
    counts = {kind: [0, 0, 0] for kind in ("all", "known", "unknown")}
    for (word, tag), (_, answer) in zip(_pairs(tokens, tags), _pairs(tokens, cut), strict=True):
        guess = dictionary.tags.get(word, dictionary.unknown)
        for kind in ("all", "known" if word in dictionary.tags else "unknown"):
            for i, one in enumerate((1, answer == tag, guess == tag)):
                counts[kind][i] += int(one)
    if not counts["all"][0]:
        raise UsageError("There is no word to evaluate. Pass sentences of at least one word.")
    right = [all(t == a for t, a in zip(row, answer, strict=True)) for row, answer in zip(tags, cut, strict=True)]
    return {
        **{
            kind: {
                "num_words": n,
                "accuracy": correct / n if n else None,
                "baseline_accuracy": guessed / n if n else None,
            }
            for kind, (n, correct, guessed) in counts.items()
        },
        "sentences_right": sum(right) / len(right),
    }


def summary(report: Mapping[str, Any]) -> str:
    """Returns a `word_report` as a few lines of text for the terminal.

    Example:
        >>> dictionary = MostFrequentTag.fit([["the", "dog"]], [[0, 1]])
        >>> print(summary(word_report([["the", "cow"]], [[0, 1]], [[0, 1]], dictionary)))
        words              1.0000 of 2 right  (most frequent tag of each word: 0.5000)
        known words        1.0000 of 1 right  (most frequent tag of each word: 1.0000)
        unknown words      1.0000 of 1 right  (most frequent tag of each word: 0.0000)
        sentences          1.0000 without any error
    """
    lines = []
    for kind, title in (("all", "words"), ("known", "known words"), ("unknown", "unknown words")):
        figures = report[kind]
        if figures["num_words"]:
            lines.append(
                f"{title:<19}{figures['accuracy']:.4f} of {figures['num_words']:,} right  "
                f"(most frequent tag of each word: {figures['baseline_accuracy']:.4f})"
            )
    lines.append(f"sentences          {report['sentences_right']:.4f} without any error")
    return "\n".join(lines)


def _most_frequent(counts: collections.Counter[int]) -> int:
    return min(counts, key=lambda tag: (-counts[tag], tag))


def _pairs(tokens: Sequence[Sequence[str]], tags: Sequence[Sequence[int]]) -> Iterable[tuple[str, int]]:
    """Yields every word with its tag; raises UsageError if the lengths differ."""
    if len(tokens) != len(tags):
        raise UsageError(f"There are {len(tokens)} sentences and {len(tags)} rows of tags. Pass one row per sentence.")
    for i, (words, row) in enumerate(zip(tokens, tags, strict=True)):
        if len(words) != len(row):
            raise UsageError(f"Sentence {i} has {len(words)} words and {len(row)} tags. Pass a tag for every word.")
        yield from ((word, int(tag)) for word, tag in zip(words, row, strict=True))


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    targets, predictions, weights = predict_split(model, data, split, batch_size)
    probabilities, weight = predictions["probabilities"], weights["tags"]
    # Other data for a run whose own cannot be loaded has no training split.
    counts = data.target_counts("train") if "train" in data.data.splits else None
    names = data.data.class_names
    report = classification.classification_report(
        targets["tags"], probabilities, names, weights=weight, train_class_counts=counts
    )

    def sentences(name: str) -> tuple[list[list[str]], list[list[int]]]:
        examples = list(raw_examples(data, name))
        words = [[token.decode("utf-8", "replace") for token in e["tokens"]] for e in examples]
        return words, [e["tags"].tolist() for e in examples]

    tokens, tags = sentences(split)
    longest = weight.shape[1]  # the preprocessor truncates longer sentences
    tokens, tags = [t[:longest] for t in tokens], [t[:longest] for t in tags]
    predicted = probabilities.argmax(axis=-1).tolist()
    dictionary = MostFrequentTag.fit(*sentences("train"))
    served, raw_text = _served(model, data, split, batch_size, dictionary)
    ends = classification.class_intervals(targets["tags"], probabilities, weights=weight)
    ends |= raw_text | unknown_interval(tokens, tags, predicted, dictionary)
    return {**report, "words": word_report(tokens, tags, predicted, dictionary), **served, "intervals": ends}


def unknown_interval(
    tokens: Sequence[Sequence[str]],
    tags: Sequence[Sequence[int]],
    predicted: Sequence[Sequence[int]],
    dictionary: MostFrequentTag,
) -> dict[str, list[float]]:
    """Returns the 95 % bootstrap interval of `unknown_accuracy`, that of unknown words; nothing without unknown words. The
    words of a sentence are drawn together. The arguments are those of `word_report`."""
    right, sizes = np.zeros(len(tokens)), np.zeros(len(tokens))
    for i, (words, row, answer) in enumerate(zip(tokens, tags, predicted, strict=True)):
        pairs = [
            (tag, given) for word, tag, given in zip(words, row, answer, strict=False) if word not in dictionary.tags
        ]
        right[i], sizes[i] = sum(tag == given for tag, given in pairs), len(pairs)
    return bootstrap(len(tokens), lambda counts: {"unknown_accuracy": mean(counts, right, sizes)})


def _served(
    model: keras.Model, data: Prepared, split: str, batch_size: int, dictionary: MostFrequentTag
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Evaluates raw texts, which are split by the served tokenizer. Words that it does not find count as wrong.

    Returns:
        `raw_text_accuracy`, the share of the data's words that are found and have the right tag;
        `raw_text_baseline_accuracy`, the same for the baseline; and `words_found`, the share of words that are found. And
        the 95 % bootstrap interval of `raw_text_accuracy`, where the words of a sentence are drawn together.
    """
    found = guessed = 0
    words: list[Any] = []  # per batch, the number of words of each sentence; and those with the right tag
    right: list[Any] = []
    examples, preprocessor = iter(raw_examples(data, split)), cast("Any", data.preprocessor)  # the task's own
    while batch := list(itertools.islice(examples, max(batch_size, 512))):  # to tokenize is costly to start
        tags = preprocessor.to_targets(batch, lost=True)["tags"]
        requests = {name: column.tolist() for name, column in data.preprocessor.to_requests(batch).items()}
        inputs, extras = data.preprocessor.serve(requests)
        outputs = data.task.prediction(call_model(model, inputs))["probabilities"].numpy().argmax(axis=-1)
        tokens = extras["tokens"].numpy()
        known = tags[:, : tokens.shape[1]]
        served = (known >= 0) & (tokens != b"")
        guesses = [dictionary.tag(token.decode("utf-8", "replace") for token in row) for row in tokens.tolist()]
        words.append(np.sum(tags >= 0, axis=1))
        right.append(np.sum(served & (outputs == known), axis=1))
        found, guessed = found + np.sum(served), guessed + np.sum(served & (np.array(guesses) == known))
    sizes, hits = np.concatenate(words), np.concatenate(right)
    shares = {"raw_text_accuracy": hits.sum(), "raw_text_baseline_accuracy": guessed, "words_found": found}
    ends = bootstrap(len(sizes), lambda counts: {"raw_text_accuracy": mean(counts, hits, sizes)})
    return {name: float(count / max(1, sizes.sum())) for name, count in shares.items()}, ends


def _headline(report: Report) -> list[Figure]:
    name = "most frequent tag of each word"
    words = report["words"]
    raw, every, unknown = report["raw_text_baseline_accuracy"], words["all"], words["unknown"]
    figures = [
        Figure("accuracy in raw text", report["raw_text_accuracy"], name, raw, key="raw_text_accuracy"),
        Figure("token accuracy", report["accuracy"], name, every["baseline_accuracy"], key="accuracy"),
    ]
    if unknown["num_words"]:
        base, key = unknown["baseline_accuracy"], "unknown_accuracy"
        figures.append(Figure("unknown word accuracy", unknown["accuracy"], name, base, unknown["num_words"], key))
    return figures


def _summary(report: Mapping[str, Any]) -> str:
    return (
        f"{classification.summary(dict(report))}\n{summary(report['words'])}\n"
        f"words in raw text  {with_interval(report, 'raw_text_accuracy')} right; the tokenizer finds "
        f"{report['words_found']:.1%} of them"
    )


register_report("tagging", ReportKind(_compute, _summary, _headline, classification.PLOTS))
