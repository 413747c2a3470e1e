"""Train a vocabulary of word pieces: `zoo vocabulary --data clinc_oos --size 8000 --path vocab.txt`."""

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

_DESCRIPTION = """Train a vocabulary of word pieces on texts, for a BERT that is trained from scratch.

The texts are the training split of a data set, --data, or files of plain text, --files, a text a line. What the pieces
cover is counted on the data set's test split; of files, on every tenth line, which training then leaves out.
"""


def coverage(texts: Sequence[str], pieces: Sequence[str], lower_case: bool) -> dict[str, float]:
    """Counts what a vocabulary makes of texts.

    Returns:
        `words`, `unknown` (the share of words with a part that is no piece) and `pieces_per_word` (of the others).

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
    """Yields the texts of a data set's split, as `vocabularies.texts_of` does; TensorFlow is imported here first."""
    from zoo.datasets.preprocessing import vocabularies

    return vocabularies.texts_of(data, split)


def _lines(files: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for file in files:
        try:
            lines += Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"Cannot read {file}: {one_line(error)} Pass files of plain text in UTF-8.") from error
    return [line for line in lines if line.strip()]


def _corpus(data: str | None, options: Any) -> tuple[list[str], list[str], str]:
    """What to train on, what to count on, and what the latter is called."""
    if data is not None:
        arguments = {key: value for key, value in options.data.as_dict().items() if value is not None}
        loaded = datasets.load(data, **arguments)
        return list(texts_of(loaded, "train")), list(texts_of(loaded, "test")), "the test split"
    lines = _lines(options.files)
    if len(lines) < 10:
        raise UsageError(
            f"{', '.join(options.files)} have {len(lines)} lines with text; expected at least 10. Pass more."
        )
    return [line for i, line in enumerate(lines) if i % 10], lines[::10], "every tenth line, which training left out"


def command(argv: list[str]) -> int:
    """Parses, trains, writes, prints the size and what it covers."""
    data, argv = take_option(argv, "data")
    parser = Parser("vocabulary", _DESCRIPTION)
    parser.add_argument("--files", nargs="+", default=[], help="Files of plain text, a text a line, instead of --data.")
    parser.add_argument("--size", type=int, default=8000, help="Most pieces.")
    parser.add_argument("--path", default="vocab.txt", help="The file to write.")
    parser.add_argument("--cased", action="store_true", help="Tell large letters from small ones, and keep accents.")
    parser.add_signature("data", datasets.load, f"data {data or ''}".strip(), skip=("name",), values={})
    options = parser.parse(argv)
    if (data is None) == (not options.files):
        came = "Neither --data nor --files came" if data is None else "Both --data and --files came"
        raise UsageError(f"{came}; expected one of them. Pass --data sms_spam or --files texts.txt, say.")
    if Path(options.path).exists():
        raise UsageError(f"{options.path} is there already. Pass another --path, or remove it.")

    import_tensorflow()
    from zoo.checkpoints.wordpiece_files import Rules, write_pieces
    from zoo.datasets.preprocessing.vocabularies import train_pieces

    train, test, where = _corpus(data, options)
    pieces = train_pieces(train, options.size, Rules(lower_case=not options.cased))
    file = Path(options.path)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_pieces(pieces, file)
    found = coverage(test, pieces, not options.cased)
    print(f"{file}: {len(pieces):,} pieces from {len(train):,} texts.")
    print(
        f"Of {found['words']:,} words of {where}, {found['unknown']:.3%} are unknown; the others have "
        f"{found['pieces_per_word']:.3f} pieces each."
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
