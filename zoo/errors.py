"""Errors that the user can fix, and the sentence that suggests the nearest valid name."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar


class UsageError(ValueError):
    """An invalid request of the user.

    The message is one line. It says what was received, what was expected and what to type next. The command line prints
    it without a traceback and exits with status 2.

    Example:
        >>> raise UsageError("epochs is 0; expected at least 1. Try --config.epochs 1.")
        Traceback (most recent call last):
        zoo.errors.UsageError: epochs is 0; expected at least 1. Try --config.epochs 1.
    """


def one_line(error: BaseException, limit: int = 400) -> str:
    """Returns an exception's message as one line of at most `limit` characters.

    For an error in a TensorFlow graph, only the sentence is kept, without the place in the graph. Colours are left out.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).rsplit("<stack traces unavailable>", 1)[-1].split("[[{{node", 1)[0]
    text = re.sub(r"\{\{function_node .*?\}\} ?", "", text)
    text = re.sub(r".*assertion failed: \[(.*?)\].*", r"\1", text, flags=re.DOTALL).replace("\\'", "'")
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def printable(text: str) -> str:
    """Returns text of unknown origin in a form that is safe to print: line breaks, escape sequences and direction marks
    are escaped.

    Example:
        >>> printable("a\\x1b[2J")
        'a\\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def did_you_mean(name: str, known: Iterable[str], *, listing: str | None = None) -> str:
    """Returns a sentence with the nearest of the `known` names, or with all of them if none is near.

    Args:
        name: the name that was received.
        known: the valid names.
        listing: a command that prints all valid names, for use if there are too many to print here.

    Example:
        >>> did_you_mean("cn", ["cnn", "mlp"])
        "Did you mean 'cnn'?"
    """
    names = sorted(known)
    if not names:
        return "There is none."
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    if near:
        return "Did you mean " + " or ".join(repr(n) for n in near) + "?"
    if len(names) <= 12 or listing is None:
        return "Valid: " + ", ".join(names) + "."
    return f"`{listing}` prints the {len(names)} valid names."


Function = TypeVar("Function", bound=Callable[..., Any])


def naming_arguments(name: str, **hints: str) -> Callable[[Function], Function]:
    """Makes a function raise `UsageError` for an argument that it does not take, in place of TypeError.

    Args:
        name: the function's public name.
        **hints: what to pass for arguments that users try, by their name, such as those of other libraries.

    Example:
        >>> @naming_arguments("zoo.train", epochs="config=zoo.TrainConfig(epochs=...)")
        ... def train(model, data, config=None): ...
        >>> train(model, data, epochs=3)
        Traceback (most recent call last):
        zoo.errors.UsageError: zoo.train takes no argument 'epochs'. Pass config=zoo.TrainConfig(epochs=...).
    """

    def decorate(function: Function) -> Function:
        known = inspect.signature(function).parameters

        @functools.wraps(function)
        def checked(*args: Any, **values: Any) -> Any:
            for argument in values:
                if argument in hints and argument not in known:
                    raise UsageError(f"{name} takes no argument {argument!r}. Pass {hints[argument]}.")
                if argument not in known:
                    raise UsageError(f"{name} takes no argument {argument!r}. {did_you_mean(argument, known)}")
            return function(*args, **values)

        return checked  # type: ignore[return-value]

    return decorate
