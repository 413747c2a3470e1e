"""Reads BERT's tokenizer files as `transformers` does: tokenizer.json, or vocab.txt and tokenizer_config.json."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError, one_line

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
"""Prefix of tokens that do not begin a word."""

VOCABULARY_FILE = "vocab.txt"
PATTERNS = (
    VOCABULARY_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "*.model",
)
"""Every file that decides how texts are split, as patterns of names. A SentencePiece model is among them to be rejected."""
_MOST_OUT_OF_REACH = 0.05
"""A warning is given if texts cannot produce more than this share of the vocabulary's tokens with letters."""
_SETTINGS_FILE = "tokenizer_config.json"
_TOKENIZERS = ("BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast")
_FIXED = {
    "do_basic_tokenize": True,
    "do_word_tokenize": True,
    "do_subword_tokenize": True,
    "word_tokenizer_type": "basic",
    "subword_tokenizer_type": "wordpiece",
}
"""Settings of tokenizer_config.json for which there is one rule."""
_LARGEST = 256 << 20
"""Maximum bytes of a tokenizer file."""
SETTINGS = {
    "lower_case": "do_lower_case",
    "strip_accents": "strip_accents",
    "split_chinese": "tokenize_chinese_chars",
}
"""The name of each rule in tokenizer_config.json."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """Options of BERT's basic tokenization.

    Attributes:
        lower_case: whether text is lower-cased.
        strip_accents: whether accents are removed; None means the same as `lower_case`.
        split_chinese: whether every Chinese character is a word.
    """

    lower_case: bool = True
    strip_accents: bool | None = None
    split_chinese: bool = True


def normalizer(rules: Rules):  # type: ignore[no-untyped-def]  # a class of the library would be imported for it
    """Returns the reference's normalizer, an object of the `tokenizers` library."""
    from tokenizers import normalizers

    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=rules.split_chinese,
        strip_accents=rules.strip_accents,
        lowercase=rules.lower_case,
    )


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The content of a checkpoint's tokenizer files.

    Attributes:
        pieces: the tokens in the order of their numbers.
        rules: rules for splitting texts into words.
    """

    pieces: tuple[str, ...]
    rules: Rules


def check_pieces(pieces: Sequence[str], source: str) -> None:
    """Raises UsageError if a special token is missing, or if a token is duplicate or has a line break."""
    needed = SPECIAL_TOKENS[:4]
    missing = [token for token in needed if token not in pieces]
    if missing:
        raise UsageError(
            f"{source} lacks {', '.join(missing)}; expected {', '.join(needed)}. Pass the vocabulary of a BERT model, or "
            "make one with `zoo vocabulary`."
        )
    twice = [piece for piece, count in collections.Counter(pieces).items() if count > 1]
    if twice:
        raise UsageError(
            f"{source} has the token {twice[0]!r} {pieces.count(twice[0])} times; expected every token once. "
            "Remove the duplicates."
        )
    broken = [piece for piece in pieces if not piece or re.search("[\n\r\ud800-\udfff]", piece)]
    if broken:
        raise UsageError(
            f"{source} has the token {broken[0]!a} as number {pieces.index(broken[0])}; expected text without a line "
            "break and without half a character (a lone surrogate). Pass the vocabulary of a BERT model."
        )


def read_vocabulary(folder: str | Path) -> Vocabulary:
    """Reads a local Hugging Face folder: tokenizer.json or vocab.txt, and tokenizer_config.json if it exists.

    Raises:
        UsageError: both files are missing, a file is damaged, or the tokenizer has another architecture.

    Warns:
        UserWarning: there is no tokenizer_config.json, and with the default rules no text can produce many of the tokens,
            because they have capital letters or accents.

    Example:
        >>> read_vocabulary("bert-base-uncased").rules.lower_case
        True
    """
    folder = Path(folder)
    whole, lines = folder / "tokenizer.json", folder / VOCABULARY_FILE
    settings = _read_json(folder / _SETTINGS_FILE) if (folder / _SETTINGS_FILE).is_file() else None
    _check_tokenizer(folder, settings or {}, whole.is_file())
    if whole.is_file():
        found = _from_tokenizer(whole, settings or {})
    elif lines.is_file():
        pieces = read_pieces(lines)
        _check_special_tokens(settings or {}, folder / _SETTINGS_FILE)
        found = Vocabulary(pieces, _rules(settings or {}, folder / _SETTINGS_FILE, {}, lines))
    else:
        raise UsageError(
            f"{folder} holds neither {whole.name} nor {lines.name}. Pass a BERT folder that transformers saved."
        )
    _check_more_tokens(folder, settings or {}, found.pieces)
    if settings is None:
        _warn_of_case(found, folder)
    return found


def _check_tokenizer(folder: Path, settings: Mapping[str, Any], complete: bool) -> None:
    """Raises UsageError if texts are split otherwise than by BERT's rules.

    Args:
        folder: the checkpoint.
        settings: its tokenizer_config.json.
        complete: whether there is a tokenizer.json, which states the rules whatever the tokenizer's name.
    """
    models = sorted(file.name for file in folder.glob("*.model"))
    if models and not complete:
        raise UsageError(
            f"{folder} has {models[0]}, which belongs to a SentencePiece tokenizer; expected BERT's WordPiece. Pass the "
            "folder of a BERT model."
        )
    file = folder / _SETTINGS_FILE
    name = settings.get("tokenizer_class")
    if name not in (None, *_TOKENIZERS) and not complete:
        raise UsageError(
            f"{file} has tokenizer_class {name!r}; expected BertTokenizer. Pass the folder of a BERT model."
        )
    for key, expected in _FIXED.items():
        if settings.get(key) not in (None, expected):
            raise UsageError(
                f"{file} has {key} {settings[key]!r}; expected {expected!r}, since texts would be split otherwise. Pass the "
                "folder of another BERT model."
            )


def _check_more_tokens(folder: Path, settings: Mapping[str, Any], pieces: Sequence[str]) -> None:
    """Raises UsageError for tokens beside the vocabulary, which transformers finds in a text before it splits words."""
    added, special = folder / "added_tokens.json", folder / "special_tokens_map.json"
    decoder = settings.get("added_tokens_decoder") or {}
    found: dict[str, list[Any]] = {added.name: [*_read_json(added)] if added.is_file() else []}
    listed = decoder.values() if isinstance(decoder, dict) else [decoder]
    found[_SETTINGS_FILE] = [
        *listed,
        *_listed(settings, "additional_special_tokens"),
        *_listed(settings, "never_split"),
    ]
    found[special.name] = _listed(_read_json(special), "additional_special_tokens") if special.is_file() else []
    for name, tokens in found.items():
        for token in tokens:
            text = token.get("content") if isinstance(token, dict) else token
            if text not in SPECIAL_TOKENS or text not in pieces:
                raise UsageError(
                    f"{folder / name} has the added token {_shown(text)!r}; expected only {', '.join(SPECIAL_TOKENS)}. "
                    "Remove it, or pass the folder of another BERT model."
                )


def _listed(content: Mapping[str, Any], key: str) -> list[Any]:
    value = content.get(key) or []
    return list(value) if isinstance(value, list) else [value]


def _rules(settings: Mapping[str, Any], file: Path, normal: Mapping[str, Any], whole: Path) -> Rules:
    """The rules of tokenizer_config.json, and missing ones from tokenizer.json's normalizer.

    The settings have priority, as in transformers, which builds the normalizer again from them.
    """

    def flag(key: str, other: str) -> bool | None:
        for content, name, where in ((settings, key, file), (normal, other, whole)):
            value = content.get(name)
            if value is not None and not isinstance(value, bool):
                raise UsageError(
                    f"{where} has {name} {value!r}; expected a boolean. Put true or false there, without quotes."
                )
            if value is not None or (name in content and key == other):  # only strip_accents may be null
                return value
        return None

    lower_case, split_chinese = (
        flag("do_lower_case", "lowercase"),
        flag("tokenize_chinese_chars", "handle_chinese_chars"),
    )
    return Rules(lower_case is not False, flag("strip_accents", "strip_accents"), split_chinese is not False)


def _warn_of_case(vocabulary: Vocabulary, folder: Path) -> None:
    """Warns if the folder does not state its rules, and its tokens look as if they were made with other rules."""
    reference = normalizer(dataclasses.replace(vocabulary.rules, split_chinese=False))
    plain = [
        p.removeprefix(CONTINUES) for p in vocabulary.pieces if p not in SPECIAL_TOKENS and any(map(str.isalpha, p))
    ]
    missed = [piece for piece in plain if reference.normalize_str(piece) != piece]
    if len(missed) > _MOST_OUT_OF_REACH * len(plain):
        warnings.warn(
            f"{folder} has no {_SETTINGS_FILE}, so texts are lower-cased and accents are removed; {len(missed):,} of its "
            f"{len(plain):,} tokens with letters have capitals or accents, such as {missed[0]!r}, and match nothing. If the "
            f'model is cased, put {_SETTINGS_FILE} with {{"do_lower_case": false}} there.',
            stacklevel=3,
        )


def read_pieces(file: str | Path) -> tuple[str, ...]:
    """Reads a vocab.txt with one token per line, numbered from 0.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, or is not a BERT vocabulary.

    Example:
        >>> read_pieces("vocab.txt")[:2]
        ('[PAD]', '[UNK]')
    """
    try:
        text = storage.read_bytes(file, _LARGEST).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Cannot read {file}: {one_line(error)} Pass a vocab.txt in UTF-8 with one token per line."
        ) from error
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")  # splitlines splits at other characters too
    check_pieces(lines, str(file))
    return tuple(lines)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(storage.read_bytes(file, _LARGEST))
    except UsageError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"Cannot read {file}: {one_line(error)} Pass the file that transformers wrote.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds a {type(content).__name__}; expected an object. Pass the file of a BERT model.")
    return content


def _shown(value: Any) -> str:
    return one_line(ValueError(value), 40)


def _check_special_tokens(settings: dict[str, Any], file: Path) -> None:
    for token in SPECIAL_TOKENS:
        key = f"{token[1:-1].lower()}_token"
        value = settings.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        if value not in (None, token):
            raise UsageError(f"{file} has {key} {value!r}; expected {token!r}. Pass the folder of a BERT model.")


def _from_tokenizer(file: Path, settings: dict[str, Any]) -> Vocabulary:
    """Reads a tokenizer.json. Parts other than BERT's are errors."""
    content = _read_json(file)
    parts = [content.get(name) for name in ("model", "normalizer", "pre_tokenizer")]
    kinds = [part.get("type") if isinstance(part, dict) else part and f"a {type(part).__name__}" for part in parts]
    if kinds != ["WordPiece", "BertNormalizer", "BertPreTokenizer"]:
        raise UsageError(
            f"{file} has {', '.join(map(_shown, kinds))}; expected WordPiece, BertNormalizer, BertPreTokenizer. Pass the "
            "folder of a BERT model."
        )
    model, normal = content["model"], content["normalizer"]
    other = {
        "unk_token": (model.get("unk_token", "[UNK]"), "[UNK]"),
        "continuing_subword_prefix": (model.get("continuing_subword_prefix", "##"), "##"),
        "max_input_chars_per_word": (model.get("max_input_chars_per_word", 100), 100),
        "clean_text": (normal.get("clean_text", True), True),
    }
    for key, (came, expected) in other.items():
        if came != expected:
            raise UsageError(f"{file} has {key} {came!r}; expected {expected!r}. Pass the folder of a BERT model.")
    added = _added_tokens(content.get("added_tokens", []), file)
    for text, token in added.items():
        flags = [name for name in ("single_word", "lstrip", "rstrip", "normalized") if token.get(name)]
        if text not in SPECIAL_TOKENS or flags:
            raise UsageError(
                f"{file} has the added token {text!r}{' with ' + ', '.join(flags) if flags else ''}; expected "
                f"only {', '.join(SPECIAL_TOKENS)}. Remove it, or pass the folder of another BERT model."
            )
    _check_special_tokens(settings, file.with_name(_SETTINGS_FILE))
    vocab = model.get("vocab")
    if not isinstance(vocab, dict):
        raise UsageError(
            f"{file} has the vocabulary {_shown(vocab)}; expected numbers by token. Pass the file of a BERT model."
        )
    numbers: dict[str, int] = vocab | {text: token.get("id") for text, token in added.items()}
    if wrong := [piece for piece, number in numbers.items() if isinstance(number, bool) or not isinstance(number, int)]:
        raise UsageError(
            f"{file} has the number {numbers[wrong[0]]!r} for the token {wrong[0]!r}; expected a whole number. Pass the file "
            "of a BERT model."
        )
    ordered = sorted(numbers, key=lambda piece: numbers[piece])
    if [numbers[piece] for piece in ordered] != list(range(len(ordered))):
        raise UsageError(
            f"{file} has {len(ordered)} tokens, but their numbers are not 0 to {len(ordered) - 1}. Pass the folder of a BERT "
            "model."
        )
    check_pieces(ordered, str(file))
    return Vocabulary(tuple(ordered), _rules(settings, file.with_name(_SETTINGS_FILE), normal, file))


def _added_tokens(tokens: Any, file: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for token in tokens if isinstance(tokens, list) else [[tokens]]:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise UsageError(
                f"{file} has {_shown(token)} among its added_tokens; expected a list of objects with content "
                "and id. Pass the file of a BERT model."
            )
        found[token["content"]] = token
    return found


def check_writable(pieces: Sequence[str]) -> None:
    """Raises UsageError for tokens that a vocab.txt cannot hold, which has one token per line."""
    for token, count in collections.Counter(pieces).items():
        if count > 1:
            raise UsageError(
                f"The vocabulary has {token!r} {count} times; expected every token once. Remove the duplicates."
            )
        if "\n" in token or "\r" in token:
            raise UsageError(f"The vocabulary has {token!r}; expected tokens without a line break. Leave it out.")


def write_pieces(pieces: Sequence[str], file: Path) -> None:
    """Writes a vocab.txt whole or not at all, with one token per line, whose number is that of the line from 0."""
    storage.write_text(file, "".join(f"{piece}\n" for piece in pieces))
