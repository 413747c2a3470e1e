"""How a table writes numbers and missing values: options with the names of `pandas.read_csv`, checked and applied."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import encodings.aliases
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

OPTIONS = ("encoding", "decimal", "thousands", "missing", "units")
"""The options of a format, as `zoo.datasets.load`, `predict` and the command line name them."""
_MARKS = {".": ".", ",": ",", "_": "_", " ": " ", "'": "'", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2019": "'"}
"""The marks between thousands, and the one that stands for all that look alike."""
_CLASSES = {" ": "[ \u00a0\u2009\u202f]", "'": "['\u2019]"}
_NO_UNIT = re.compile(r"[\d,'()+\-\u2012-\u2015\u2019\u2212]|(?<![^\W\d_])\.|^\s*$")
"""What no unit may hold: without a sign or a digit, the number would be another one. A point may end a word, as in `Fr.`"""


def is_unit(text: str) -> bool:
    """Returns whether a text can be a unit, see `TableFormat.units`."""
    return _NO_UNIT.search(text) is None


def plain_mark(letter: str) -> str | None:
    """Returns the mark between digits that a letter is or looks like; None if it is none."""
    return _MARKS.get(letter)


def _texts(option: str, value: Any, example: str) -> tuple[str, ...]:
    """Returns the texts of an option; one text is a list of it, as in pandas."""
    is_list = not isinstance(value, str) or re.fullmatch(r"\[.*\]", value.strip())  # also JSON with numbers
    listed = value if is_list else [value]
    if not isinstance(listed, (list, tuple, set, frozenset)) or not all(
        isinstance(v, (str, int, float)) for v in listed
    ):
        raise UsageError(f"{option} is {value!r}; expected a list of texts. Pass '[\"{example}\"]', say.")
    return tuple(str(text).strip() for text in listed if str(text).strip())


def _check_encoding(name: str | None, prefix: str) -> None:
    if name is None or (isinstance(name, str) and _is_text(name)):
        return
    near = ""
    if isinstance(name, str):
        codecs = {*encodings.aliases.aliases, *encodings.aliases.aliases.values()}
        near = did_you_mean(name.lower().replace("-", "_"), filter(_is_text, codecs))
    near = f" {near}" if near.startswith("Did") else ""
    raise UsageError(
        f"encoding is {name!r}; expected a text encoding of Python.{near} Pass {prefix}encoding cp1252, say."
    )


def _is_text(codec: str) -> bool:
    try:
        b"a".decode(codec)
    except UnicodeDecodeError:  # half a character of UTF-16
        return True
    except (LookupError, UnicodeError, ValueError):
        return False
    return True


@dataclasses.dataclass(frozen=True)
class TableFormat:
    """How a table writes numbers and missing values. By default the cells decide, or an error says what to pass.

    Attributes:
        encoding: the codec of a file; None is UTF-8.
        decimal: the decimal mark, a point or a comma.
        thousands: the mark between groups of digits. A space stands for no-break spaces too, and ' for its curved form.
        missing: further cells that are missing values, in columns of any kind.
        units: units and signs before or after numbers, which are removed.
        separator: what separates the cells of the file. Between commas, a comma can be no decimal mark by itself.
        commas: a clause that says where the table has decimal commas; "" if nothing says so.
        comma_columns: the columns that certainly have decimal commas, by rows of the file that were read before.
        prefix: what precedes an option on the command line, for messages.
        inherited: whether the encoding is that of a model's training data, and not given for this file.

    Raises:
        UsageError: an option has an invalid value.

    Example:
        >>> TableFormat(decimal=",", thousands=".").pattern(".")
        '\\\\.'
    """

    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    missing: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    separator: str = ","
    commas: str = ""
    comma_columns: tuple[str, ...] = ()
    prefix: str = "--data."
    inherited: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing", _texts("missing", self.missing, "k. A."))
        object.__setattr__(self, "units", _texts("units", self.units, "€"))
        _check_encoding(self.encoding, self.prefix)
        if self.decimal not in (None, ".", ","):
            raise UsageError(f"decimal is {self.decimal!r}; expected '.' or ','. Pass one of them.")
        if self.thousands is not None:
            if self.thousands not in _MARKS:
                raise UsageError(
                    f"thousands is {self.thousands!r}; expected '.', ',', ' ', \"'\" or '_'. Pass one of them."
                )
            object.__setattr__(self, "thousands", _MARKS[self.thousands])
            if self.thousands == self.decimal:
                raise UsageError(
                    f"decimal and thousands are both {self.decimal!r}; expected two marks. Leave thousands out, or pass "
                    f"decimal {'.' if self.decimal == ',' else ','!r}."
                )
        for unit in self.units:
            if not is_unit(unit):
                raise UsageError(
                    f"units has {unit!r}; expected signs or words such as '€', without digits, signs or marks. Leave it out."
                )

    @classmethod
    def of(cls, options: Mapping[str, Any], **more: Any) -> TableFormat:
        """Returns the format of options that may be None."""
        return cls(**{name: options[name] for name in OPTIONS if options.get(name) is not None}, **more)

    def __deepcopy__(self, memo: Any) -> TableFormat:
        return self  # pandas copies attributes in every operation

    @property
    def point(self) -> str | None:
        """The decimal mark that the options decide; None if the cells decide."""
        return self.decimal or {".": ",", ",": "."}.get(self.thousands or "")

    @staticmethod
    def pattern(mark: str) -> str:
        """Returns the pattern of a mark, and of those that look like it."""
        return _CLASSES.get(mark, re.escape(mark))

    def asked(self) -> dict[str, Any]:
        """Returns the options that are set, as JSON values."""
        values = {name: getattr(self, name) for name in OPTIONS}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v}

    def recorded(self) -> dict[str, Any]:
        """Returns what other tables of the same user inherit, see `inherit`: the options, and `decimal_commas`."""
        return {**self.asked(), **({"decimal_commas": True} if self.commas and not self.point else {})}

    def flags(self, **options: Any) -> str:
        """Returns options as they are typed: on the command line, and in Python."""
        shell = " ".join(
            f"{self.prefix}{name} {shlex.quote(json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v)}"
            for name, v in options.items()
        )
        return f"{shell} ({', '.join(f'{name}={v!r}' for name, v in options.items())} in Python)"


DEFAULT = TableFormat()
"""The format in which the cells decide."""


def inherit(recorded: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options for a table of a user whose earlier table had the recorded ones. Those that are given win; a mark
    that is given is no longer the other mark.

    Example:
        >>> inherit({"decimal": ",", "thousands": "."}, {"decimal": "."})
        {'decimal': '.'}
    """
    given = {name: value for name, value in given.items() if value is not None}
    found = {name: value for name, value in (recorded or {}).items() if name in OPTIONS}
    for one, other in (("decimal", "thousands"), ("thousands", "decimal")):
        if one in given and given[one] == found.get(other):
            del found[other]
    return {**found, **given}


def for_request(recorded: Mapping[str, Any] | None, given: Mapping[str, Any]) -> TableFormat:
    """Returns the format of a table to predict for: the given options, else those of the training data."""
    known = dict(recorded or {})
    options = inherit(known, given)
    commas = _TRAINED_ON_COMMAS if known.get("decimal_commas") and "decimal" not in options else ""
    return TableFormat.of(
        options, prefix="--", commas=commas, inherited="encoding" in options and given.get("encoding") is None
    )


_TRAINED_ON_COMMAS = "the model was trained on decimal commas"
_EXPECTED: contextvars.ContextVar[bool] = contextvars.ContextVar("expected", default=False)


@contextlib.contextmanager
def expecting(recorded: Mapping[str, Any] | None) -> Iterator[None]:
    """In the block, tables are those of a user whose earlier table had the recorded format: if it had decimal commas, points
    between groups of three digits are not read as decimal points."""
    token = _EXPECTED.set(bool((recorded or {}).get("decimal_commas")))
    try:
        yield
    finally:
        _EXPECTED.reset(token)


def applied(frame: pd.DataFrame, format: TableFormat, separator: str = ",") -> pd.DataFrame:
    """Returns a table of texts whose missing words are empty cells. `attrs["format"]` has its format, for `of`."""
    attrs = dict(frame.attrs)
    if format.missing:
        frame = frame.mask(frame.apply(lambda column: column.str.strip().isin(format.missing)), "")
    commas = format.commas or (_TRAINED_ON_COMMAS if _EXPECTED.get() else "")
    found = {} if format.point else _decimal_commas(frame, separator)
    commas = next(iter(found.values()), commas)
    frame.attrs = attrs
    frame.attrs["format"] = dataclasses.replace(
        format,
        separator=separator,
        commas="" if format.point else commas,
        comma_columns=tuple({**dict.fromkeys(format.comma_columns), **found}),
    )
    return frame


def of(cells: pd.Series) -> TableFormat:
    """Returns the format of a column. Numbers by the dtype of a DataFrame are written as Python writes them."""
    found: TableFormat = cells.attrs.get("format", DEFAULT)
    by_dtype = cells.attrs.get("kinds", {}).get(cells.name) == "number"
    return TableFormat(decimal=".", prefix=found.prefix) if by_dtype else found


def read_as(frame: pd.DataFrame) -> str:
    """Returns the encoding that a table was read with, for a message about its names; "" for UTF-8.

    Example:
        >>> read_as(applied(pd.DataFrame({"a": ["1"]}), TableFormat(encoding="cp1252")))
        ', read as cp1252,'
    """
    encoding = getattr(frame.attrs.get("format"), "encoding", None)
    return f", read as {encoding}," if encoding else ""


def joined(whole: pd.DataFrame, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Gives a table the format of its parts: if one has decimal commas, all have."""
    found = [part.attrs["format"] for part in parts if "format" in part.attrs]
    if found:
        separators = {format.separator for format in found}
        whole.attrs = {**parts[0].attrs}
        whole.attrs["format"] = dataclasses.replace(
            found[0],
            separator=separators.pop() if len(separators) == 1 else ",",
            commas=next((format.commas for format in found if format.commas), ""),
        )
    return whole


_WITH_COMMA = r"[+-]?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d*),\d+"
_PLAIN = r"[+-]?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)"
_MOST = 0.8
"""A column has decimal commas if this share of its cells are numbers, and some have a comma; the others are mistakes, or
words for missing values."""


def _decimal_commas(frame: pd.DataFrame, separator: str) -> dict[str, str]:
    """Returns a clause about each column with decimal commas."""
    clauses: dict[str, str] = {}
    if separator == ",":
        return clauses
    for name, column in frame.items():
        if not column.str.contains(",", regex=False).any():
            continue
        held = column.str.strip()
        known = held[held != ""]
        with_comma = known.str.fullmatch(_WITH_COMMA)
        sure = known[with_comma & ~known.str.fullmatch(r".*,\d{3}")]
        if len(sure) and (with_comma | known.str.fullmatch(_PLAIN)).mean() >= _MOST:
            clauses[str(name)] = f"{name} has decimal commas, such as {sure.iloc[0]}"
    return clauses
