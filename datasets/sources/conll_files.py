"""Files of the CoNLL shared tasks: one word per line with its columns, and an empty line between sentences."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.datasets.data import Data
from zoo.datasets.sources.registry import register_source
from zoo.datasets.sources.tagged_sentences import Sentences, decode, given_files, to_data
from zoo.errors import UsageError, did_you_mean, printable

_DOCUMENT = "-DOCSTART-"
_CONLLU = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_CONLL_2003 = ("token", "pos", "chunk", "ner")
_COLUMNS_LINE = "# global.columns ="
_NUMBER = re.compile(r"\d+")
_NOT_A_WORD = re.compile(r"\d+[-.]\d+")
"""The id of a multiword token, such as 3-4, or of an empty node, such as 3.1, which are no words of the sentence."""
_KEY = re.compile(r"#\s*[\w.:-]+\s*=")
_SPACES = re.compile(r"[ \t]+")
_KEYS = ("tokens", "tags")

Columns = Mapping[str, str | int]


@register_source("conll")
def read_conll(
    name: str,
    path: Path,
    memory_limit: int,
    columns: Mapping[str, str | int] | None = None,
    validation: str | None = None,
    test: str | None = None,
    encoding: str | None = None,
) -> Data:
    """Reads tagged sentences from a CoNLL file: a word per line, its columns separated by tabs or spaces, and an empty line
    after each sentence. Lines that begin with -DOCSTART- and comments are left out. In CoNLL-U, so are multiword tokens and
    empty nodes, and `# text` is the text that a served model gets.

    Args:
        name: the name that `load` was called with.
        path: the file.
        memory_limit: see `zoo.datasets.load`.
        columns: the column of `tokens` and of `tags`, as numbers from 0 (-1 is the last), or by name: in CoNLL-U ID, FORM,
            LEMMA, UPOS, XPOS and so on, in files of four columns token, pos, chunk and ner. By default the first and the
            last column; in CoNLL-U FORM and UPOS.
        validation: Another such file, from the folder of the first, which is the validation split.
        test: Another such file, which is the test split.
        encoding: The codec of files that are not UTF-8, by its name in Python, such as latin-1.

    Raises:
        UsageError: a file is missing or is not in this form (the message names the line), or a column is unknown.

    Example:
        >>> data = zoo.datasets.load("conll:train.txt", validation="valid.txt", test="test.txt")
        >>> data.class_names[:3]
        ('B-LOC', 'B-MISC', 'B-ORG')
    """
    files = given_files(path, validation, test)
    contents = {role: _File.read(file, encoding) for role, file in files.items()}
    first = contents["train"]
    chosen = first.chosen(columns)
    parts = {role: content.sentences(chosen) for role, content in contents.items()}
    note = f"Columns of {name}: {first.title(chosen['tokens'])} has the words, {first.title(chosen['tags'])} the tags"
    arguments = {
        **({"columns": dict(columns)} if columns else {}),
        **({"validation": validation} if validation else {}),
        **({"test": test} if test else {}),
        **({"encoding": encoding} if encoding else {}),
    }
    return to_data(parts, name, arguments, files, memory_limit, notes=[note])


@dataclasses.dataclass
class _File:
    """The lines of a file.

    Attributes:
        path: the file.
        lines: the number of each line with columns, from 1, and its columns; None for the end of a sentence, a str for a
            comment.
        names: the names of the columns, empty without names.
        width: number of columns of nearly all lines.
        tabs: whether tabs separate the columns.
    """

    path: Path
    lines: list[tuple[int, list[str] | str | None]]
    names: tuple[str, ...]
    width: int
    tabs: bool

    @classmethod
    def read(cls, path: Path, encoding: str | None) -> _File:
        raw = decode(path, encoding, "conll:FILE").split("\n")
        written = [line for line in raw if line.strip(" \t") and not line.startswith(("#", _DOCUMENT))]
        if not written:
            raise UsageError(f"{path} has no line with a word. Choose a file with a word per line, and its tag.")
        tabs = sum("\t" in line for line in written) > len(written) / 2
        widths = collections.Counter(len(_cells(line, tabs)) for line in written)
        width = max(widths, key=lambda count: (widths[count], count))
        is_conllu = tabs and width == len(_CONLLU) and _NUMBER.match(written[0])
        names: Sequence[str] = _CONLLU if is_conllu else _CONLL_2003 if width == len(_CONLL_2003) else ()
        if raw[0].startswith(_COLUMNS_LINE):
            names = raw[0].removeprefix(_COLUMNS_LINE).split()
        found = cls(path, [], tuple(names), width, tabs)
        found._parse(raw, {_cells(line, tabs)[-1] for line in written})
        if found.names == _CONLL_2003 and found._is_numbered():
            found.names = ()
        return found

    def _parse(self, raw: Sequence[str], last_cells: set[str]) -> None:
        for number, line in enumerate(raw, 1):
            if not line.strip(" \t") or line.startswith(_DOCUMENT):
                self.lines.append((number, None))
            elif line.startswith("#") and not self._is_hash_word(line, last_cells):
                self.lines.append((number, line))
            else:
                self.lines.append((number, _cells(line, self.tabs)))

    def _is_hash_word(self, line: str, last_cells: set[str]) -> bool:
        """Whether a line that begins with # is a word, such as a hashtag, and no comment: it has the columns of the other
        lines, and its last one occurs there."""
        cells = _cells(line, self.tabs)
        return not self.is_conllu and len(cells) == self.width and cells[-1] in last_cells and not _KEY.match(line)

    @property
    def is_conllu(self) -> bool:
        return self.names[:1] == ("ID",)

    def title(self, column: int) -> str:
        """Returns a column's number from 0, with its name."""
        number = column % self.width
        return f"{number} ({self.names[number]})" if number < len(self.names) else str(number)

    def chosen(self, columns: Columns | None) -> dict[str, int]:
        """Returns the numbers of the columns of tokens and tags."""
        if columns is not None and (not isinstance(columns, Mapping) or {*columns} - {*_KEYS}):
            raise UsageError(
                f"columns is {columns!r}; a CoNLL file has tokens and tags. Pass "
                '--data.columns \'{"tokens": 0, "tags": 3}\', say.'
            )
        if self.width < 2 and "tags" not in (columns or {}):
            number, cells = next((n, cells) for n, cells in self.lines if isinstance(cells, list))
            raise UsageError(
                f"{self.path} line {number} has one column, {printable(' '.join(cells))!r:.60}; expected a word and its tag, "
                "separated by a tab or a space. Choose a file with both."
            )
        names = {name: number for number, name in enumerate(self.names)}
        usual = {
            "tokens": names.get("FORM", 1 if self.is_conllu or self._is_numbered() else 0),
            "tags": names.get("UPOS", self.width - 1),
        }
        return {**usual, **{key: self._number(key, value) for key, value in (columns or {}).items()}}

    def _number(self, key: str, value: str | int) -> int:
        if isinstance(value, str) and value.lstrip("-").isdigit():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            if value not in self.names:
                known = did_you_mean(str(value), self.names) if self.names else "Its columns have no names."
                raise UsageError(
                    f"{self.path} has no column {value!r}. {known} Pass a number from 0 to {self.width - 1} for {key}."
                )
            return self.names.index(value)
        if not -self.width <= value < self.width:
            raise UsageError(
                f"{self.path} has no column {value}; it has {self.width}. Pass a number from 0 to {self.width - 1} for {key}."
            )
        return value % self.width

    def _is_numbered(self) -> bool:
        """Whether the first column counts the words of each sentence from 1, as in the files of GermEval."""
        expected = 1
        for _, cells in self.lines:
            if isinstance(cells, list) and cells[0] != str(expected):
                return False
            expected = expected + 1 if isinstance(cells, list) else 1 if cells is None else expected
        return self.width > 2

    def sentences(self, chosen: Mapping[str, int]) -> Sentences:
        """Returns the sentences.

        Raises:
            UsageError: a line has another number of columns than the others, or an empty word or tag.
        """
        found = Sentences(self.path)
        text = ""
        words: list[tuple[str, str]] = []
        for number, cells in [*self.lines, (0, None)]:
            if cells is None:
                found.add(words, text)
                words, text = [], ""
            elif isinstance(cells, str):
                text = cells.partition("=")[2].strip() if cells.startswith("# text =") else text
            elif not (self.is_conllu and _NOT_A_WORD.match(cells[0])):
                words.append(self._word(number, cells, chosen))
        return found

    def _word(self, number: int, cells: list[str], chosen: Mapping[str, int]) -> tuple[str, str]:
        if len(cells) != self.width:
            separator = "tabs" if self.tabs else "spaces"
            columns = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            raise UsageError(
                f"{self.path} line {number} has {columns}, {printable(' '.join(cells))!r:.80}; expected {self.width}, "
                f"separated by {separator}, as in the other lines. Correct the line."
            )
        token, tag = cells[chosen["tokens"]], cells[chosen["tags"]].strip()
        if not token.strip() or not tag:
            what = "tag" if token.strip() else "word"
            raise UsageError(f"{self.path} line {number} has an empty {what}. Correct the line.")
        if self.is_conllu and tag == "_":
            tag = ""  # not annotated
        return token, tag


def _cells(line: str, tabs: bool) -> list[str]:
    """Returns the columns of a line. Other white space, such as a no-break space, may be part of a word."""
    return line.split("\t") if tabs else _SPACES.split(line.strip(" \t"))
