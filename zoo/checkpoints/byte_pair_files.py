"""The tokens of GPT-2: the numbers of bytes and of joined pairs, and the files that hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.checkpoints import config_files
from zoo.errors import UsageError

END_OF_TEXT = "<|endoftext|>"
PATTERNS = ("merges.txt", "vocab.json", "tokenizer.json", "tokenizer_config.json")
Merges = tuple[tuple[int, int], ...]
_LARGEST = 256 << 20


def byte_order() -> list[int]:
    """Returns the bytes in the order of their numbers: first those that are printed, as in GPT-2.

    Example:
        >>> byte_order()[0], byte_order()[255]
        (33, 173)
    """
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [*printed, *(byte for byte in range(256) if byte not in printed)]


def letters() -> list[str]:
    """Returns the letter that stands for each byte in GPT-2's files, in the order of the bytes' numbers: the byte's own, or
    one from U+0100 on.

    Example:
        >>> letters()[0], letters()[220]
        ('!', 'Ġ')
    """
    order = byte_order()
    printed = 188
    return [chr(byte) if number < printed else chr(256 + number - printed) for number, byte in enumerate(order)]


def as_merges(pairs: Sequence[tuple[bytes, bytes]]) -> Merges:
    """Returns pairs of bytes, each part a byte or the bytes of an earlier pair, as pairs of token numbers.

    Raises:
        UsageError: a part is not yet there.

    Example:
        >>> as_merges([(b"h", b"i"), (b"hi", b"!")])
        ((71, 72), (256, 0))
    """
    numbers = {bytes([byte]): number for number, byte in enumerate(byte_order())}
    found = []
    for place, (left, right) in enumerate(pairs):
        for part in (left, right):
            if part not in numbers:
                raise UsageError(
                    f"Pair {place} joins {part!r}, which no earlier pair made. Pass the pairs in the order of their training."
                )
        found.append((numbers[left], numbers[right]))
        numbers.setdefault(left + right, 256 + place)
    return tuple(found)


def read_merges(folder: Path) -> Merges:
    """Returns the pairs of a folder's merges.txt, or else of its tokenizer.json.

    Raises:
        UsageError: both are missing, a line has no two parts, or the tokens are numbered in another way than those of GPT-2.
    """
    file = folder / "merges.txt"
    if file.is_file():
        lines: list[Any] = read_lines(file)
        vocabulary = folder / "vocab.json"
        numbers = config_files.read_json(vocabulary) if vocabulary.is_file() else None
    else:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise UsageError(
                f"{folder} has neither merges.txt nor tokenizer.json, which hold the tokens. Put those of the model there."
            )
        model = config_files.read_json(file).get("model") or {}
        lines = [line.split(" ") if isinstance(line, str) else list(line) for line in model.get("merges") or ()]
        numbers = model.get("vocab")
    merges = merges_of(file, lines)
    _check_numbers(file, merges, lines, numbers)
    return merges


def read_lines(file: Path) -> list[list[str]]:
    """Returns the parts of every line of a merges.txt."""
    content = storage.read_bytes(file, _LARGEST).decode("utf-8", "replace").split("\n")
    return [line.split(" ") for line in content if line and not line.startswith("#version")]


def merges_of(file: Path, lines: Sequence[Sequence[str]]) -> Merges:
    """Returns the pairs of the parts of lines, which are spelled in `letters`.

    Raises:
        UsageError: a line has no two parts, or one of other letters.
    """
    back = dict(zip(letters(), byte_order(), strict=True))
    pairs = []
    for number, parts in enumerate(lines, 1):
        if len(parts) != 2 or not all(part and set(part) <= back.keys() for part in parts):
            raise UsageError(f"{file}: pair {number} is {' '.join(parts)!r:.60}; expected two parts. Replace the file.")
        pairs.append(tuple(bytes(back[letter] for letter in part) for part in parts))
    return as_merges(pairs)  # type: ignore[arg-type]


def _check_numbers(file: Path, merges: Merges, lines: Sequence[Sequence[str]], numbers: Any) -> None:
    """Raises UsageError if the vocabulary numbers tokens otherwise than bytes, pairs and the end of a text, in this order."""
    expected = [*letters(), *("".join(parts) for parts in lines)]
    if len(set(expected)) < len(expected):
        raise UsageError(
            f"{file} has two pairs of the same bytes; expected different ones. Pass the folder of a GPT-2."
        )
    if numbers is None:
        return
    wrong = next((token for number, token in enumerate(expected) if numbers.get(token) != number), None)
    if wrong is not None:
        raise UsageError(
            f"{file}: the token {wrong!r} has the number {numbers.get(wrong)!r}, expected {expected.index(wrong)}: bytes, "
            "then pairs in their order, as in GPT-2. Pass the folder of a GPT-2."
        )
    others = {token: number for token, number in numbers.items() if number >= len(expected)}
    if others not in ({}, {END_OF_TEXT: len(expected)}):
        raise UsageError(
            f"{file} has the further tokens {sorted(others)[:3]}; expected {END_OF_TEXT} alone. Pass the folder of a GPT-2."
        )


def write(folder: Path, merges: Merges) -> None:
    """Writes merges.txt, vocab.json and tokenizer_config.json, as GPT-2's tokenizer in transformers reads them."""
    tokens = letters()
    lines = ["#version: 0.2"]
    for left, right in merges:
        lines.append(f"{tokens[left]} {tokens[right]}")
        tokens.append(tokens[left] + tokens[right])
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    numbers = {token: number for number, token in enumerate([*tokens, END_OF_TEXT])}
    (folder / "vocab.json").write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
