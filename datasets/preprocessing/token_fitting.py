"""Fits the tokens of a data set: which tokenizer, which vocabulary, and how long a text may be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.tokenizers import MOST_CHARACTERS, TOKENIZERS
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Tensors
    from zoo.datasets.raw import RawData

_BATCH = 1024
_MOST_TEXTS = 4_096
"""Validation texts in which unknown words are counted."""
_COVERED = 0.95
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
"""Letters of Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese, which have no spaces between words."""
_MANY_UNSPACED, _MANY_UNKNOWN = 0.3, 0.3
_MOST_UNSPACED, _LONG_WORD = 0.5, 3
"""Texts mostly in such scripts are not divided into words if what stands between spaces and marks has more letters."""
_MOST_CHARACTERS = 20_000_000
"""Characters of all training texts. More take minutes to count their n-grams."""
WITHOUT_CHARACTERS = (
    f"character_ngrams 0: the training texts have more than {_MOST_CHARACTERS:,} characters, whose n-grams would take "
    "minutes to count. Pass --model.character_ngrams 5 to use them."
)
_FEWEST_CHARACTERS = 256
"""Code points of a text that are read at least, however many texts there are."""
_FEWEST_FOR_SUBWORDS = 1_000
"""Training texts. Fewer hold too few repeated parts of words to learn from."""


class Fitted(NamedTuple):
    """The tokens of a data set.

    Attributes:
        tokenizer: the name of the tokenizer.
        vocabulary: the known tokens, the most frequent first.
        reason: why it is this tokenizer, empty if it was chosen by hand.
    """

    tokenizer: str
    vocabulary: tuple[str, ...]
    reason: str


def fit_tokens(data: RawData, size: int) -> Fitted:
    """Chooses the tokenizer of a data set's texts, unless its option `tokenizer` names one, and learns at most `size` tokens
    from the training split.

    `auto` counts words. If most letters belong to scripts without spaces and words seem to be clauses, or if many letters
    do and many words of the validation split would be unknown, it takes characters. If many would be unknown in other
    scripts, it takes subwords, provided that there are enough texts. Otherwise it takes words. It reads no label.

    Raises:
        UsageError: too few tokens occur twice.
    """
    given = data.arguments.get("tokenizer", "auto")
    if given != "auto":
        return _learned(data, given, size, "", _counts(data, given))
    counts = _counts(data, "words")
    vocabulary = TOKENIZERS["words"].learn(counts, size)
    name, reason = _choice(data, counts, {word.encode() for word in vocabulary})
    return _learned(data, name, size, reason, counts if name == "words" else _counts(data, name))


def _learned(data: RawData, name: str, size: int, reason: str, counts: Mapping[bytes, int]) -> Fitted:
    vocabulary = tuple(TOKENIZERS[name].learn(counts, size))
    if not vocabulary:
        unit, different = TOKENIZERS[name].unit, sum(1 for token in counts if token)
        if not different:
            raise UsageError(
                f"The texts in the training split of data set {data.name!r} are empty. Pass texts, or check that the column "
                "holds texts."
            )
        others = ", ".join(other for other in TOKENIZERS if other != name)
        raise UsageError(
            f"Each of the {different:,} different {unit}s in the training split of data set {data.name!r} is too rare to "
            f"learn. Pass more texts, check that the column holds texts, or choose another tokenizer: {others} "
            "(--data.tokenizer)."
        )
    return Fitted(name, vocabulary, reason)


def _choice(data: RawData, counts: Mapping[bytes, int], known: Set[bytes]) -> tuple[str, str]:
    """Returns the tokenizer that suits the texts, and the reason."""
    letters = unspaced = words = 0
    for word, count in counts.items():
        text = word.decode()
        letters += count * sum(map(str.isalpha, text))
        found = sum(map(str.isalpha, _UNSPACED.findall(text)))
        unspaced, words = unspaced + count * found, words + count * (found > 0)
    if not letters:
        return "words", "the texts have no letters"
    has_validation = "validation" in data.splits and data.splits["validation"].num_examples > 0
    split = "validation" if has_validation else "train"
    unknown = _unknown_share(data, split, known)
    share, examples = unspaced / letters, data.splits["train"].num_examples
    missing = f"{unknown:.1%} of the words of the {split} split are unknown"
    if share >= _MOST_UNSPACED and unspaced > _LONG_WORD * words:  # clauses between commas, not words
        return "characters", f"{share:.0%} of the letters are of scripts without spaces"
    if share >= _MANY_UNSPACED and unknown >= _MANY_UNKNOWN:
        return "characters", f"{share:.0%} of the letters are of scripts without spaces, and as words, {missing}"
    if unknown >= _MANY_UNKNOWN and examples >= _FEWEST_FOR_SUBWORDS:
        return "subwords", f"as words, {missing}"
    if not known:
        return "characters", "no word occurs twice"
    each = sum(counts.values()) / examples
    few = ", and there are too few texts to learn subwords" if unknown >= _MANY_UNKNOWN else ""
    return "words", f"{each:.0f} a text on average, {missing}{few}"


def _unknown_share(data: RawData, split: str, known: Set[bytes]) -> float:
    """Returns the share of unknown ones among the words with letters."""
    total = unknown = 0
    for texts in _texts(data, split, _MOST_TEXTS):
        for word in TOKENIZERS["words"].split(texts, None).flat_values.numpy().tolist():
            if any(map(str.isalpha, word.decode())):
                total, unknown = total + 1, unknown + (word not in known)
    return unknown / max(total, 1)


def _texts(data: RawData, split: str = "train", most: int = -1) -> Iterator[tf.Tensor]:
    yield from data.splits[split].dataset().map(lambda example: example["text"]).take(most).batch(_BATCH)


def _counts(data: RawData, name: str) -> Counter[bytes]:
    counts: Counter[bytes] = Counter()
    for texts in _texts(data):
        counts.update(TOKENIZERS[name].split(texts, None).flat_values.numpy().tolist())
    return counts


def measure(data: RawData, lengths: Callable[[Tensors], tf.Tensor]) -> np.ndarray:
    """Returns the number of tokens of every training example, int32 (examples,), by a preprocessor's function `lengths`; also
    more numbers for each, (examples, numbers), if it returns them."""
    found = [lengths(batch).numpy() for batch in data.train.padded_batch(_BATCH)]
    return np.concatenate(found) if found else np.zeros(0, np.int32)


def characters_read(longest: int, examples: int, tokens: int, memory_limit: int) -> int:
    """Returns how many code points of a text are read: no more than the longest training text has, so that the data takes no
    more memory than it needs; and as many as fit, so that one long text does not make those of many short ones too large.

    Args:
        longest: code points of the longest training text.
        examples: number of training texts.
        tokens: maximum number of tokens of a text, which are kept too.
        memory_limit: bytes that the inputs of a split may take.

    Example:
        >>> characters_read(900, 5_000, 512, 2 << 30), characters_read(4_096, 600_000, 128, 2 << 30)
        (900, 766)
    """
    fit = memory_limit // (4 * max(1, examples)) - tokens
    return max(_FEWEST_CHARACTERS, min(longest, fit, MOST_CHARACTERS))


def ngrams_of_characters(data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, int]:
    """Returns {"character_ngrams": number of characters of the longest n-grams of characters, 0 for none}: the builder's
    argument, or else that of the spec, and 0 for very long training data, which a line says; {} for a model without them.
    """
    if "character_ngrams" not in needs:
        return {}
    given = arguments.get("character_ngrams")
    if given is not None:
        return {"character_ngrams": given}
    total = sum(int(tf.reduce_sum(tf.strings.length(texts, unit="UTF8_CHAR"))) for texts in _texts(data))
    return {"character_ngrams": needs["character_ngrams"] if total <= _MOST_CHARACTERS else 0}


def longest(lengths: np.ndarray, usual: int, most: int) -> int:
    """Returns the maximum number of tokens of a text: what 95% of the training texts do not exceed, but at least `usual`,
    which costs shorter texts nothing, and at most `most`.

    Example:
        >>> longest(np.arange(1, 201), usual=128, most=512)
        190
    """
    enough = int(np.quantile(lengths, _COVERED, method="inverted_cdf")) if len(lengths) else usual
    return min(max(enough, usual), max(usual, most))


def describe_lengths(unit: str, lengths: np.ndarray, most: int) -> str:
    """Returns a line with the longest text that is read, and the number of training texts that are cut.

    Example:
        >>> describe_lengths("word", np.array([3, 5, 9]), 8)
        'max_length 8: 1 of 3 training texts (33.3%) has more words, up to 9, and is cut to 8.'
    """
    cut = int(np.sum(lengths > most))
    if not cut:
        return f"max_length {most:,}: no training text has more {unit}s."
    verb = ("has", "is") if cut == 1 else ("have", "are")
    return (
        f"max_length {most:,}: {cut:,} of {len(lengths):,} training texts ({cut / len(lengths):.1%}) {verb[0]} more {unit}s, "
        f"up to {int(lengths.max()):,}, and {verb[1]} cut to {most:,}."
    )
