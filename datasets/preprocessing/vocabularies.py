"""Trains vocabularies of subword tokens on texts."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from zoo.checkpoints.wordpiece_files import CONTINUES, SPECIAL_TOKENS, Rules, normalizer
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_ALPHABET = 1000
"""Maximum number of characters in a trained vocabulary. The most frequent are kept; words with others are unknown."""
_MIN_COUNT = 2


def texts_of(data: RawData, split: str = "train") -> Iterator[str]:
    """Yields the texts of a data set's split. The two texts of a pair follow each other. If a data set has only words, they
    are joined with spaces.

    Raises:
        UsageError: the data set has no texts.

    Example:
        >>> next(texts_of(zoo.datasets.load("commands"), "test"))
        'how is the door of my office?'
    """
    if "tokens" in data.features:
        for example in data.splits[split].dataset().as_numpy_iterator():
            yield b" ".join(example["tokens"].tolist()).decode("utf-8", "replace")
        return
    names = [name for name in ("text", "text_pair") if name in data.features]
    if not names:
        raise UsageError(
            f"Data set {data.name!r} has {', '.join(data.features)} and no text. Choose a data set of texts: "
            "sms_spam, clinc_oos, or text:FOLDER."
        )
    for example in data.splits[split].dataset().as_numpy_iterator():
        yield from (example[name].decode("utf-8", "replace") for name in names)


def train_pieces(texts: Iterable[str], size: int, rules: Rules = Rules()) -> tuple[str, ...]:  # noqa: B008
    """Trains a WordPiece vocabulary: the special tokens, the characters, and the most frequent subword tokens.

    The same texts in any order give the same vocabulary.

    Args:
        texts: the corpus.
        size: maximum size, including the five special tokens and all characters.
        rules: rules for splitting texts into words.

    Raises:
        UsageError: the size is too small, or the texts hold no word.

    Example:
        >>> train_pieces(["low lower lowest"] * 9, 20)[-1]
        'lowest'
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    reference, splitter = normalizer(rules), pre_tokenizers.BertPreTokenizer()
    words: collections.Counter[str] = collections.Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(reference.normalize_str(text)))
    characters: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    ranked = sorted(characters, key=lambda c: (-characters[c], c))
    kept = ranked[: min(_ALPHABET, max(1, (size - len(SPECIAL_TOKENS)) // 2))]
    if not kept or size < len(SPECIAL_TOKENS) + 2:
        raise UsageError(
            f"Cannot train a vocabulary of {size} tokens on texts with {len(characters)} characters; expected at least "
            f"{len(SPECIAL_TOKENS) + 2} tokens and one character. Pass more texts or a larger size."
        )
    dropped = dict.fromkeys(map(ord, ranked[len(kept) :]))
    words = collections.Counter({word: count for word, count in words.items() if word.translate(dropped) == word})
    # The library numbers characters in the order of a hash table, which differs between runs, and breaks ties by these
    # numbers. Characters that are passed as special tokens get fixed numbers.
    inside = sorted({character for word in words for character in word[1:]})
    first = [*SPECIAL_TOKENS, *sorted(kept), *(CONTINUES + character for character in inside)]
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS[1]))
    tokenizer.pre_tokenizer = splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=_MIN_COUNT, special_tokens=first, show_progress=False
    )
    tokenizer.train_from_iterator((f"{word} " * count for word, count in sorted(words.items())), trainer)
    numbers = tokenizer.get_vocab(with_added_tokens=False)
    return tuple(sorted(numbers, key=lambda piece: numbers[piece]))
