"""JSON lines of tagged sentences: one object per line, with a list of words and a list of tags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.datasets.data import Data
from zoo.datasets.sources.registry import register_source
from zoo.datasets.sources.tagged_sentences import Sentences, check_tags, decode, given_files, to_data
from zoo.errors import UsageError, did_you_mean, one_line

_KEYS = ("tokens", "tags", "text")


@register_source("jsonl")
def read_jsonl(
    name: str,
    path: Path,
    memory_limit: int,
    columns: Mapping[str, str] | None = None,
    class_names: list[str] | None = None,
    validation: str | None = None,
    test: str | None = None,
    encoding: str | None = None,
) -> Data:
    """Reads tagged sentences from JSON lines: {"tokens": ["Paris", "sleeps"], "tags": ["B-LOC", "O"]}, one object per line.

    Args:
        name: the name that `load` was called with.
        path: the file.
        memory_limit: see `zoo.datasets.load`.
        columns: the names of `tokens` and `tags` in the objects, such as {"tokens": "words", "tags": "ner_tags"}, and
            perhaps of `text`, the sentence as it is written.
        class_names: The names of tags that are numbers, in their order.
        validation: Another such file, from the folder of the first, which is the validation split.
        test: Another such file, which is the test split.
        encoding: The codec of files that are not UTF-8, by its name in Python, such as latin-1.

    Raises:
        UsageError: a file is missing, or a line (which the message names) is no such object.

    Example:
        >>> data = zoo.datasets.load("jsonl:names.jsonl", columns={"tags": "ner_tags"})
        >>> data.task
        'tagging'
    """
    if columns is not None and (not isinstance(columns, Mapping) or {*columns} - {*_KEYS}):
        raise UsageError(
            f"columns is {columns!r}; JSON lines have tokens, tags and perhaps text. Pass "
            '--data.columns \'{"tokens": "words", "tags": "ner_tags"}\', say.'
        )
    chosen = {"tokens": "tokens", "tags": "tags", "text": "text", **(columns or {})}
    files = given_files(path, validation, test)
    parts = {role: _read(file, encoding, chosen, class_names) for role, file in files.items()}
    arguments = {
        **({"columns": dict(columns)} if columns else {}),
        **({"class_names": list(class_names)} if class_names else {}),
        **({"validation": validation} if validation else {}),
        **({"test": test} if test else {}),
        **({"encoding": encoding} if encoding else {}),
    }
    return to_data(parts, name, arguments, files, memory_limit)


def _read(path: Path, encoding: str | None, chosen: Mapping[str, str], class_names: Sequence[str] | None) -> Sentences:
    found = Sentences(path)
    for number, line in enumerate(decode(path, encoding, "jsonl:FILE").split("\n"), 1):
        if line.strip():
            where = f"{path} line {number}"
            row = _object(where, line)
            tokens, tags = (_list(where, row, chosen[key], key) for key in ("tokens", "tags"))
            check_tags(where, tokens, tags)
            words = _words(where, tokens)
            text = row.get(chosen["text"], "")
            if not isinstance(text, str):
                raise UsageError(f"{where} has the text {text!r:.60}; expected a string. Correct the line.")
            found.add([*zip(words, _names(where, tags, class_names), strict=True)], text)
    return found


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {one_line(error, 100)}. Correct the line.") from error
    if not isinstance(row, dict):
        raise UsageError(f'{where} is no object; expected {{"tokens": [...], "tags": [...]}}. Correct the line.')
    return row


def _list(where: str, row: Mapping[str, Any], name: str, key: str) -> list[Any]:
    if name not in row:
        lists = [other for other, value in row.items() if isinstance(value, list) and other != "tokens"]
        if not lists:
            raise UsageError(
                f"{where} has no key {name!r}, a list. It has {', '.join(row) or 'no key'}. Pass csv:FILE instead, which "
                "reads JSON lines of texts with labels, and of tables."
            )
        example = json.dumps({key: lists[0]}, ensure_ascii=False)
        raise UsageError(
            f"{where} has no key {name!r}. {did_you_mean(name, lists)} Pass --data.columns '{example}', say."
        )
    if not isinstance(row[name], list):
        raise UsageError(f"{where}: {name} is {row[name]!r:.60}; expected a list. Correct the line.")
    return row[name]


def _words(where: str, tokens: Sequence[Any]) -> list[str]:
    for place, token in enumerate(tokens):
        if not isinstance(token, str) or not token.strip():
            raise UsageError(
                f"{where}: word {place} is {token!r:.60}; expected a string with letters. Correct the line."
            )
    return list(tokens)


def _names(where: str, tags: Sequence[Any], class_names: Sequence[str] | None) -> list[str]:
    """Returns the names of tags, which are strings or numbers of the class names; "" for null."""
    found = []
    for place, tag in enumerate(tags):
        is_number = isinstance(tag, int) and not isinstance(tag, bool)
        if tag is not None and not isinstance(tag, str) and not is_number:
            raise UsageError(f"{where}: tag {place} is {tag!r:.60}; expected a string or a number. Correct the line.")
        if is_number and class_names is not None:
            if not 0 <= tag < len(class_names):
                raise UsageError(
                    f"{where}: tag {place} is {tag}; class_names has names for 0 to {len(class_names) - 1}. Pass the name of "
                    "every number."
                )
            tag = class_names[tag]
        found.append("" if tag is None else str(tag).strip())
    return found
