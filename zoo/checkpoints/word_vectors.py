"""Word vectors from a local text file in the format of GloVe and fastText, read as a stream."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from zoo.checkpoints.contract import Published
from zoo.errors import UsageError, one_line, printable

if TYPE_CHECKING:
    import keras

    from zoo.registry import ModelSpec

_ARGUMENT = "word_vectors"
_LONGEST_LINE = 1 << 20
_HEAD = 1 << 16
_FEW = 0.5
"""Share of the words below which a line says what to check."""


@dataclasses.dataclass(frozen=True)
class WordVectors:
    """The vectors of known words that a file has.

    Attributes:
        path: the file.
        sha256: the SHA-256 of the whole file.
        numbers: the words' numbers, which are rows of the embedding, int64 (found,).
        values: their vectors, float32 (found, dim).
        num_words: number of known words, with a vector or without.

    Example:
        >>> str(read("glove.6B.50d.txt", {"the": 2, "zoo": 3}))
        'word vectors: 2 of 2 words found'
    """

    path: Path
    sha256: str
    numbers: np.ndarray
    values: np.ndarray
    num_words: int

    def __str__(self) -> str:
        found = len(self.numbers)
        few = found < _FEW * self.num_words
        advice = ". If these are few, check the language of the file, and that the texts are split into words"
        return f"word vectors: {found:,} of {self.num_words:,} words found{advice if few else ''}"

    @property
    def published(self) -> Published:
        """Where they come from, and their hash, as runs record it. The licence of a file is unknown."""
        source = f"word vectors {self.path.name}"
        return Published(source, self.path, source, "unknown", {self.path.name: self.sha256})

    def assign(self, model: keras.Model, layer: str = "embedding", scale: float = 1.0) -> None:
        """Sets the rows of the found words in an embedding. All others keep their random directions, and get the standard
        deviation of the found ones, so that they are as long.

        Args:
            model: a new model.
            layer: the name of its embedding.
            scale: factor of the vectors, for a model that multiplies its embedding.

        Example:
            >>> read("glove.6B.50d.txt", preprocessor.word_numbers).assign(model)
        """
        embedding = model.get_layer(layer)
        rows, values = np.array(embedding.get_weights()[0]), self.values * np.float32(scale)
        deviation, usual = values.std(), rows.std()
        if deviation > 0 and usual > 0:
            rows *= deviation / usual
        rows[self.numbers] = values
        embedding.set_weights([rows])


def assign_vectors(model: keras.Model, data: Any, scale: float = 1.0) -> None:
    """Sets the embedding of a new model, if its data was prepared with word vectors. It is the `adapt` of a spec.

    Args:
        model: the model, with a layer `embedding`.
        data: the prepared data (`zoo.datasets.prepared.Prepared`).
        scale: as in `WordVectors.assign`.
    """
    if data.word_vectors is not None:
        data.word_vectors.assign(model, scale=scale)


def chosen(spec: ModelSpec, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, int]:
    """Returns {"embedding_dim": values of a vector}, if a model's arguments name a file of word vectors; otherwise {}.

    Args:
        spec: the model's spec.
        arguments: all arguments of its builder.
        given: those that the user chose.

    Raises:
        UsageError: the file is missing, binary or compressed, begins with no vector, or the user chose another size.

    Example:
        >>> chosen(zoo.get_spec("rnn"), {"word_vectors": "glove.6B.50d.txt"}, {})
        {'embedding_dim': 50}
    """
    path = arguments.get(_ARGUMENT) if _ARGUMENT in spec.initial_arguments else None
    if path is None:
        return {}
    with _opened(path) as file:
        dim, _ = _described(path, file)
    size = given.get("embedding_dim")
    if size is not None and size != dim:
        raise UsageError(
            f"embedding_dim is {size!r}; the word vectors {str(path)!r} have {dim} values. Leave embedding_dim out."
        )
    return {"embedding_dim": dim}


def of_words(
    spec: ModelSpec, arguments: Mapping[str, Any], words: Mapping[str, int] | None, data_name: str
) -> WordVectors | None:
    """Returns the vectors of a data set's words, if a model's arguments name a file of word vectors; otherwise None.

    Args:
        spec: the model's spec.
        arguments: arguments of its builder.
        words: the words that the preprocessor knows, and their numbers; None if it has no words.
        data_name: the name of the data set.

    Raises:
        UsageError: the data has no words, or as in `read`.
    """
    path = arguments.get(_ARGUMENT) if _ARGUMENT in spec.initial_arguments else None
    if path is None:
        return None
    if words is None:
        raise UsageError(
            f"word_vectors={str(path)!r:.80} needs texts; data set {data_name!r} has none for this model. Leave "
            "word_vectors out."
        )
    return read(path, words)


def read(path: str | Path, words: Mapping[str, int]) -> WordVectors:
    """Reads the vectors of words. Of the file, which may be larger than memory, only these are kept.

    Each line has a word and its values, separated by spaces. The first line may hold the number of words and of values, as
    fastText writes it. A word that the file does not have gets the vector of its lower-case form, or else of the first word
    in the file whose lower-case form it is. Of equal words, the first counts.

    Args:
        path: UTF-8 text file.
        words: the known words and their numbers.

    Raises:
        UsageError: the file is missing, compressed, binary or not UTF-8, a line has another number of values, a value of a
            known word is not a finite number, the first line promises other numbers, or no word is found.

    Example:
        >>> read("wiki-news-300d-1M.vec", {"zoo": 2}).values.shape
        (1, 300)
    """
    found = _Found(words)
    digest, count = hashlib.sha256(), 0
    with _opened(path) as file:
        dim, expected = _described(path, file)
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
            digest.update(line)
            if number == 1 and expected is not None:
                continue
            if not (text := _stripped(line)):
                continue
            count += 1
            word, values = _divided(path, number, text, dim)
            if (keys := found.wanted(word)) is not None:
                found.keep(keys, _numbers(path, number, word, values))
    if expected is not None and count != expected:
        raise UsageError(
            f"{str(path)!r} has {count:,} lines of vectors; its first line promises {expected:,}. Pass a whole copy of the "
            "file, or correct its first line."
        )
    numbers, vectors = found.rows()
    if not len(numbers):
        raise UsageError(
            f"None of the {len(words):,} words of the data is in {str(path)!r}. Pass word vectors of the data's language, "
            "and texts that are split into words (--data.tokenizer words)."
        )
    return WordVectors(Path(path), digest.hexdigest(), numbers, vectors, len(words))


class _Found:
    """The vectors of known words, of which better matches replace others."""

    def __init__(self, words: Mapping[str, int]) -> None:
        self._words = words
        self._lower: dict[str, list[str]] = {}
        for word in words:
            self._lower.setdefault(word.lower(), []).append(word)
        self._best: dict[str, tuple[int, np.ndarray]] = {}

    def wanted(self, word: str) -> list[tuple[str, int]] | None:
        """Returns the known words that a word of the file stands for better than earlier ones, and the ranks; None for no
        such word."""
        lower = word.lower()
        if lower not in self._lower:
            return None
        ranked = [(known, 0 if known == word else 1 if known.lower() == word else 2) for known in self._lower[lower]]
        # A cased form stands for a known word in lower case, not for another cased one, such as "US" for "Us".
        ranked = [(known, rank) for known, rank in ranked if rank < 2 or known == lower]
        better = [(k, rank) for k, rank in ranked if k not in self._best or rank < self._best[k][0]]
        return better or None

    def keep(self, keys: list[tuple[str, int]], vector: np.ndarray) -> None:
        """Keeps a vector for known words."""
        for known, rank in keys:
            self._best[known] = (rank, vector)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the words, ascending, and their vectors."""
        ordered = sorted((self._words[known], vector) for known, (_, vector) in self._best.items())
        vectors = np.array([vector for _, vector in ordered], np.float32)
        return np.array([number for number, _ in ordered], np.int64), vectors


def _opened(path: str | Path) -> BinaryIO:
    """Returns an open text file; rejects what is none."""
    if not isinstance(path, (str, Path)) or not Path(path).is_file():
        raise UsageError(
            f"word_vectors is {path!r:.200}, which is no file. Pass a local text file of word vectors, such as "
            "glove.6B.100d.txt or cc.de.300.vec."
        )
    try:
        file = Path(path).open("rb")  # noqa: SIM115  # the caller closes it
    except OSError as error:
        raise UsageError(
            f"{str(path)!r} cannot be read: {one_line(error, 120)}. Pass a file that you may read."
        ) from error
    head = file.read(_HEAD)
    file.seek(0)
    packed = next((kind for start, kind in _PACKED.items() if head.startswith(start)), None)
    if packed or b"\0" in head:
        file.close()
        if packed:
            raise UsageError(
                f"{str(path)!r} is compressed ({packed}); expected a text file of word vectors. Pass the unpacked file "
                "(gunzip --keep FILE, or unzip FILE)."
            )
        raise UsageError(
            f"{str(path)!r} is binary; expected a text file of word vectors. Pass the text file that is published with it, "
            "often .vec or .txt, or convert it to lines `word v1 v2 ...`."
        )
    return file


_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def _described(path: str | Path, file: BinaryIO) -> tuple[int, int | None]:
    """Returns the number of values of a vector, and the number of words in the first line, None without such a line."""
    fields = _stripped(file.readline(_LONGEST_LINE)).split(b" ")
    file.seek(0)
    if len(fields) == 2 and all(part.isdigit() for part in fields):
        dim, count = int(fields[1]), int(fields[0])
    else:
        dim, count = len(fields) - 1, None
    if dim < 2:
        raise UsageError(
            f"Line 1 of {str(path)!r} has {len(fields)} columns; expected a word and at least 2 values, or the number of "
            "words and of values. Convert the file to lines `word v1 v2 ...`, separated by spaces."
        )
    return dim, count


def _stripped(line: bytes) -> bytes:
    # Tabs separate in some files, and fastText ends lines with a space.
    text = line.replace(b"\t", b" ").rstrip(b" \r\n")
    return b" ".join(text.split()) if b"  " in text else text


def _divided(path: str | Path, number: int, text: bytes, dim: int) -> tuple[str, bytes]:
    """Returns the word of a line, and its values."""
    spaces = text.count(b" ")
    # A few words of GloVe hold spaces, such as ". . .". Numbers between would be too many values.
    between = text.split(b" ")[1 : 1 + spaces - dim] if spaces > dim else []
    if spaces < dim or any(map(_is_number, between)):
        raise UsageError(
            f"Line {number:,} of {str(path)!r} has {spaces} values; expected {dim}, as in the first line. Correct this line, "
            "or pass a whole copy of the file."
        )
    word = text[: text.index(b" ")] if spaces == dim else text.rsplit(b" ", dim)[0]
    try:
        return word.decode("utf-8"), text[len(word) + 1 :]
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Line {number:,} of {str(path)!r} is not UTF-8. Convert the file: iconv -f latin1 -t utf-8 FILE > NEW."
        ) from error


def _numbers(path: str | Path, number: int, word: str, text: bytes) -> np.ndarray:
    """Returns the values of a line, float32 (dim,)."""
    values = text.split(b" ")
    wrong = next((value for value in values if not _is_number(value)), None)
    if wrong is None:
        with np.errstate(over="ignore"):
            vector = np.array([float(value) for value in values]).astype(np.float32)
        if np.all(np.isfinite(vector)):
            return vector
        wrong = values[int(np.argmin(np.isfinite(vector)))]
    shown = wrong.decode("utf-8", "replace")
    raise UsageError(
        f"Line {number:,} of {str(path)!r} has {printable(shown)!r:.40} in the vector of {printable(word)!r:.40}; expected "
        "finite numbers. Correct this line."
    )


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
