"""Report of a tagger: accuracy on known and unknown words, and scores of entities, next to a most-frequent-tag baseline.

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
from zoo.evaluation import classification, entities, raw_entities
from zoo.evaluation.intervals import bootstrap, mean, with_interval
from zoo.evaluation.prediction import predict_split
from zoo.evaluation.reports import Figure, Report, ReportKind, raw_examples, register_report
from zoo.tasks import call_model
from zoo.tasks.entities import scheme_of

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


MOST_FREQUENT = "most frequent tag of each word"
_ROWS = 512


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    targets, predictions, weights = predict_split(model, data, split, batch_size)
    probabilities, weight = predictions["probabilities"], weights["tags"]
    # Other data for a run whose own cannot be loaded has no training split.
    counts = data.target_counts("train") if "train" in data.data.splits else None
    names = data.data.class_names
    report = classification.classification_report(
        targets["tags"], probabilities, names, weights=weight, train_class_counts=counts
    )
    tokens, tags = _sentences(data, split)
    lengths = (weight > 0).sum(axis=1).tolist()  # the preprocessor truncates longer sentences
    predicted = [row[:size] for row, size in zip(probabilities.argmax(axis=-1).tolist(), lengths, strict=True)]
    dictionary = MostFrequentTag.fit(*_sentences(data, "train"))
    served = _served(model, data, split, batch_size, dictionary)
    ends = classification.class_intervals(targets["tags"], probabilities, weights=weight) | served.pop("intervals")
    found = _entities(names, tokens, tags, predicted, dictionary)
    ends |= found.pop("intervals", {})
    tokens = [row[:size] for row, size in zip(tokens, lengths, strict=True)]
    tags = [row[:size] for row, size in zip(tags, lengths, strict=True)]
    ends |= unknown_interval(tokens, tags, predicted, dictionary)
    words = word_report(tokens, tags, predicted, dictionary)
    return {**report, "words": words, **served, **found, "intervals": ends}


def _sentences(data: Prepared, split: str) -> tuple[list[list[str]], list[list[int]]]:
    """Returns the words and the tags of the sentences of a split."""
    examples = list(raw_examples(data, split))
    words = [[token.decode("utf-8", "replace") for token in e["tokens"]] for e in examples]
    return words, [e["tags"].tolist() for e in examples]


def _entities(
    class_names: Sequence[str],
    tokens: Sequence[Sequence[str]],
    tags: Sequence[Sequence[int]],
    predicted: Sequence[Sequence[int]],
    dictionary: MostFrequentTag,
) -> dict[str, Any]:
    """Returns the scores of entities, if the tags mark entities. Entities beyond a truncated sentence count as missed."""
    scheme = scheme_of(class_names)
    if scheme is None:
        return {}
    found, ends = entities.entity_report(tags, predicted, scheme)
    guessed = entities.entity_report(tags, [dictionary.tag(words) for words in tokens], scheme)[0]
    found["baseline_f1"] = guessed["f1"]
    return {"entities": found, "entity_f1": found["f1"], "intervals": ends}


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
) -> dict[str, Any]:
    """Evaluates raw texts, which are split by the served tokenizer. Words that it does not find count as wrong.

    Returns:
        `raw_text_accuracy`, the share of the data's words that are found and have the right tag;
        `raw_text_baseline_accuracy`, the same for the baseline; and `words_found`, the share of words that are found. If the
        tags mark entities, `raw_text_entities` and their F1. And the 95 % bootstrap `intervals`, where the words of a
        sentence are drawn together.
    """
    found = guessed = 0
    words: list[Any] = []  # per batch, the number of words of each sentence; and those with the right tag
    right: list[Any] = []
    examples, preprocessor = iter(raw_examples(data, split)), cast("Any", data.preprocessor)  # the task's own
    scheme, names = scheme_of(data.data.class_names), data.data.class_names
    in_texts = None if scheme is None else raw_entities.RawEntities(data.task, preprocessor, names, scheme)
    while batch := list(itertools.islice(examples, max(batch_size, 512))):  # to tokenize is costly to start
        tags = preprocessor.to_targets(batch, lost=True)["tags"]
        requests = {name: column.tolist() for name, column in data.preprocessor.to_requests(batch).items()}
        inputs, extras = data.preprocessor.serve(requests)
        made = call_model(model, inputs)
        outputs = data.task.prediction(made)["probabilities"].numpy().argmax(axis=-1)
        tokens = extras["tokens"].numpy()
        known = tags[:, : tokens.shape[1]]
        served = (known >= 0) & (tokens != b"")
        guesses = [dictionary.tag(token.decode("utf-8", "replace") for token in row) for row in tokens.tolist()]
        words.append(np.sum(tags >= 0, axis=1))
        right.append(np.sum(served & (outputs == known), axis=1))
        found, guessed = found + np.sum(served), guessed + np.sum(served & (np.array(guesses) == known))
        if in_texts is not None:
            in_texts.add(batch, requests["text"], made, extras, guesses)
    sizes, hits = np.concatenate(words), np.concatenate(right)
    shares = {"raw_text_accuracy": hits.sum(), "raw_text_baseline_accuracy": guessed, "words_found": found}
    ends = bootstrap(len(sizes), lambda counts: {"raw_text_accuracy": mean(counts, hits, sizes)})
    scores: dict[str, Any] = {name: float(count / max(1, sizes.sum())) for name, count in shares.items()}
    if in_texts is not None:
        scores["raw_text_entities"], more = in_texts.report()
        scores[raw_entities.KEY] = scores["raw_text_entities"]["f1"]
        ends |= more
    return {**scores, "intervals": ends}


def _headline(report: Report) -> list[Figure]:
    words = report["words"]
    raw, every, unknown = report["raw_text_baseline_accuracy"], words["all"], words["unknown"]
    figures = [
        Figure("accuracy in raw text", report["raw_text_accuracy"], MOST_FREQUENT, raw, key="raw_text_accuracy"),
        Figure("token accuracy", report["accuracy"], MOST_FREQUENT, every["baseline_accuracy"], key="accuracy"),
    ]
    if "entities" in report:
        found = report["entities"]
        first = Figure("entity F1", found["f1"], MOST_FREQUENT, found["baseline_f1"], found["support"], "entity_f1")
        figures.insert(0, first)
    if found := report.get("raw_text_entities"):  # reports of earlier runs do not have them
        base, key, count = found["baseline_f1"], raw_entities.KEY, found["support"]
        figures.insert(1, Figure("entity F1 in raw text", found["f1"], MOST_FREQUENT, base, count, key))
    if unknown["num_words"]:
        base, key = unknown["baseline_accuracy"], "unknown_accuracy"
        figures.append(
            Figure("unknown word accuracy", unknown["accuracy"], MOST_FREQUENT, base, unknown["num_words"], key)
        )
    return figures


def _summary(report: Mapping[str, Any]) -> str:
    lines = [
        classification.summary(dict(report)),
        summary(report["words"]),
        f"words in raw text  {with_interval(report, 'raw_text_accuracy')} right; the tokenizer finds "
        f"{report['words_found']:.1%} of them",
    ]
    if "entities" in report:
        lines.append(entities.summary(report["entities"], MOST_FREQUENT, report["entities"]["baseline_f1"]))
    if found := report.get("raw_text_entities"):
        lines.append(entities.summary(found, MOST_FREQUENT, found["baseline_f1"], "entities in raw text"))
    return "\n".join(lines)


def _measure(data: Prepared, examples: Mapping[str, Any], predictions: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metrics of a baseline, which tags the words of the data. In raw text, those that the tokenizer finds
    have these tags, and all others count as wrong."""
    rows = [{name: column[row] for name, column in examples.items()} for row in range(len(examples["tags"]))]
    tags, predicted = [row["tags"].tolist() for row in rows], [np.asarray(row) for row in predictions["tags"]]
    known = {word for words in _sentences(data, "train")[0] for word in words}
    preprocessor = cast("Any", data.preprocessor)  # the task's own
    right = total = unknown_right = unknown = raw_right = raw_total = 0
    names, scheme = data.data.class_names, scheme_of(data.data.class_names)
    in_text: list[Any] = []
    for start in range(0, len(rows), _ROWS):
        batch = rows[start : start + _ROWS]
        lengths = _scored_lengths(preprocessor, batch)
        # The number of the word of each token in raw text, in place of its tag.
        places = preprocessor.to_targets([{**row, "tags": np.arange(len(row["tags"]))} for row in batch], lost=False)
        raw_total += int(np.sum(preprocessor.to_targets(batch, lost=True)["tags"] >= 0))
        for row, found, size, at in zip(batch, predicted[start:], lengths, places["tags"], strict=False):
            hits = row["tags"] == found
            is_new = np.array([token.decode("utf-8", "replace") not in known for token in row["tokens"]], bool)[:size]
            right, total = right + int(hits[:size].sum()), total + size
            unknown_right, unknown = unknown_right + int(hits[:size][is_new].sum()), unknown + int(is_new.sum())
            raw_right += int(hits[at[at >= 0]].sum())
            in_text.append(
                None if scheme is None else raw_entities.places_by_words(scheme, names, at.tolist(), found.tolist())
            )
    scores = {"accuracy": right / max(1, total), "raw_text_accuracy": raw_right / max(1, raw_total)}
    if unknown:
        scores["unknown_accuracy"] = unknown_right / unknown
    if scheme is not None:
        scores["entity_f1"] = entities.entity_report(tags, [row.tolist() for row in predicted], scheme)[0]["f1"]
        if None not in in_text:
            true = [{(scheme.types[kind], a, b) for kind, a, b in scheme.spans(row)} for row in tags]
            scores[raw_entities.KEY] = entities.span_report(true, in_text, "")[0]["f1"]
    return scores


def _scored_lengths(preprocessor: Any, examples: Sequence[Mapping[str, Any]]) -> list[int]:
    """Returns how many words of each sentence the model tags: the preprocessor truncates longer sentences."""
    longest = max(len(example["tags"]) for example in examples)
    tokens = [[*e["tokens"].tolist(), *[b""] * (longest - len(e["tags"]))] for e in examples]
    tags = [np.pad(e["tags"], (0, longest - len(e["tags"]))) for e in examples]
    weights = preprocessor.encode({"tokens": tokens, "tags": np.array(tags)})[2]["tags"].numpy()
    return [int(size) for size in (weights > 0).sum(axis=1)]


register_report("tagging", ReportKind(_compute, _summary, _headline, classification.PLOTS, measure=_measure))
