"""The options of commands that look at a finished model's answers: `--split`, `--data` and the options of that data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jsonargparse

from zoo.errors import UsageError
from zoo.scripts.console import Parser, load_plugins, take_option
from zoo.scripts.train import add_data_options


def parse(parser: Parser, argv: Sequence[str], verb: str) -> tuple[jsonargparse.Namespace, str | None, dict[str, Any]]:
    """Parses the command line of a command that takes a model and examples.

    Args:
        parser: the command's parser, with its own options.
        argv: the words after the command.
        verb: what the command does with the split, for the help: "look at".

    Returns:
        The options, the name of the data set (None for the run's own) and those of its options that were passed.

    Raises:
        UsageError: an option is unknown or has a wrong value, or options of a data set came without `--data`.

    Example:
        >>> parse(Parser("errors", ""), ["--data", "digits", "--split", "train"], "look at")[1:]
        ('digits', {})
    """
    data, words = take_option(load_plugins(list(argv)), "data")
    parser.add_argument(
        "--split",
        default="test",
        help=f"Split to {verb}: train, validation or test; or all examples of --data. Files without splits are test.",
    )
    parser.add_plugins()
    add_data_options(parser, data, {})
    options = parser.parse(words)
    if data is None and (stray := [word for word in words if word.startswith("--data.")]):
        raise UsageError(f"{stray[0]} came without --data. Pass --data NAME, or leave it out.")
    given = {name: value for name, value in options.data.as_dict().items() if value is not None} if data else {}
    return options, data, given
