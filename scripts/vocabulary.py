"""Train a WordPiece vocabulary: `zoo vocabulary --data clinc_oos --size 8000 --path vocab.txt`."""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import datasets
from zoo.errors import UsageError, one_line
from zoo.scripts.console import Parser, import_tensorflow, run_command, take_option

if TYPE_CHECKING:
    from zoo.datasets.data import Data

_DESCRIPTION = """Train a WordPiece vocabulary on texts, for a BERT model that is trained from scratch.

The texts are the training split of a data set (--data) or text files with one text per line (--files). The command
reports unknown words and subword tokens per word, counted on the test split of the data set. With --files, every tenth
line is kept out of the training and used for this count.
"""


def coverage(texts: Sequence[str], pieces: Sequence[str], lower_case: bool) -> dict[str, float]:
    """Counts how many words of the texts a vocabulary covers.

    Args:
        texts: the texts.
        pieces: the vocabulary, one subword token per element.
        lower_case: whether the texts are lowercased first.

    Returns:
        `words` (the number of words), `unknown` (the fraction of words with a part that is not in the vocabulary) and
        `pieces_per_word` (subword tokens per word, of the other words).

    Example:
        >>> coverage(["low newest"], train_pieces(["low lower lowest"] * 9, 20), True)["unknown"]
        0.5
    """
    import tensorflow as tf

    from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor

    preprocessor, unknown = WordPiecePreprocessor(tuple(pieces), 3, lower_case), pieces.index("[UNK]")
    counted: collections.Counter[str] = collections.Counter()
    for start in range(0, len(texts), 1024):
        found, counts, _ = preprocessor.pieces(tf.constant(texts[start : start + 1024]))
        missed = int(tf.math.count_nonzero(found == unknown))
        counted.update(words=len(counts), unknown=missed, pieces=len(found) - missed)
    known = counted["words"] - counted["unknown"]
    return {
        "words": counted["words"],
        "unknown": counted["unknown"] / max(counted["words"], 1),
        "pieces_per_word": counted["pieces"] / max(known, 1),
    }


def texts_of(data: Data, split: str) -> Iterator[str]:
    """Yields the texts of a split, as `vocabularies.texts_of` does; imports TensorFlow only when called."""
    from zoo.datasets.preprocessing import vocabularies

    return vocabularies.texts_of(data, split)


def _lines(files: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for file in files:
        try:
            lines += Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"Cannot read {file}: {one_line(error)} Pass plain text files in UTF-8.") from error
    return [line for line in lines if line.strip()]


def _corpus(data: str | None, options: Any) -> tuple[list[str], list[str], str]:
    """Returns the training texts, the texts for counting, and a description of the latter."""
    if data is not None:
        arguments = {key: value for key, value in options.data.as_dict().items() if value is not None}
        loaded = datasets.load(data, **arguments)
        return list(texts_of(loaded, "train")), list(texts_of(loaded, "test")), "the test split"
    lines = _lines(options.files)
    if len(lines) < 10:
        raise UsageError(
            f"{', '.join(options.files)} have {len(lines)} non-empty lines; expected at least 10. Pass more text."
        )
    return [line for i, line in enumerate(lines) if i % 10], lines[::10], "every tenth line, not used for training"


def command(argv: list[str]) -> int:
    """Parses the options, trains and writes the vocabulary, and prints its size and coverage."""
    data, argv = take_option(argv, "data")
    parser = Parser("vocabulary", _DESCRIPTION)
    parser.add_argument("--files", nargs="+", default=[], help="Text files with one text per line, instead of --data.")
    parser.add_argument("--size", type=int, default=8000, help="Maximum vocabulary size.")
    parser.add_argument("--path", default="vocab.txt", help="The file to write.")
    parser.add_argument("--cased", action="store_true", help="Keep upper case and accents.")
    parser.add_signature("data", datasets.load, f"data {data or ''}".strip(), skip=("name", "model"), values={})
    options = parser.parse(argv)
    if (data is None) == (not options.files):
        came = "Neither --data nor --files was given" if data is None else "Both --data and --files were given"
        raise UsageError(f"{came}; expected one of them. Try --data sms_spam or --files texts.txt.")
    if Path(options.path).exists():
        raise UsageError(f"{options.path} already exists. Pass another --path, or remove it.")

    import_tensorflow()
    from zoo.checkpoints.wordpiece_files import Rules, write_pieces
    from zoo.datasets.preprocessing.vocabularies import train_pieces

    train, test, where = _corpus(data, options)
    pieces = train_pieces(train, options.size, Rules(lower_case=not options.cased))
    file = Path(options.path)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_pieces(pieces, file)
    found = coverage(test, pieces, not options.cased)
    print(f"{file}: {len(pieces):,} subword tokens from {len(train):,} texts.")
    print(
        f"Of {found['words']:,} words in {where}, {found['unknown']:.3%} are unknown; the others have "
        f"{found['pieces_per_word']:.3f} subword tokens each."
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
