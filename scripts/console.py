"""Code shared by all commands: parsers made from signatures, one-line errors, exit statuses."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import inspect
import io
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import docstring_parser
import jsonargparse

from zoo import lineage, option_words, remote
from zoo.errors import UsageError, did_you_mean, one_line, printable
from zoo.registry import families_with


class Parser(jsonargparse.ArgumentParser):
    """An argument parser with one-line errors that name the nearest valid option."""

    def __init__(self, command: str, description: str, **settings: Any) -> None:
        super().__init__(prog=f"zoo {command}", description=description, allow_abbrev=False, **settings)
        self.expected: dict[str, str] = {}
        self.chosen: dict[str, set[str]] = {}

    def add_plugins(self) -> None:
        """Adds `--plugin` to the help; `load_plugins` has already removed it from the command line."""
        text = "A Python file or module that adds models, tasks or data sets; may be given several times."
        self.add_argument("--plugin", metavar="FILE.py", help=text)
        text = "Open a run even if the contents of a plugin have changed since."
        self.add_argument("--allow-changed-plugins", action="store_true", help=text)

    def add_golden(self, default: str | Sequence[str] | None = None) -> None:
        """Adds `--golden`; see `golden_of`."""
        self.add_argument(
            "--golden",
            nargs="+",
            default=[default] if isinstance(default, str) else default,
            help="Requests to publish as golden examples instead of test examples of the data: texts, paths of images, or a "
            ".npz file with an array per input; generated for requests that are made up; or test for test examples.",
        )

    def add_licence(self) -> None:
        """Adds `--licence`."""
        text = "The licence of the model, such as Apache-2.0, for the model card and zoo.json."
        self.add_argument("--licence", "--license", type=str | None, default=None, metavar="NAME", help=text)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises `UsageError`, so that the error is one line and no usage text is printed."""
        found = re.search(r'Parser key "([^"]+)"', message)
        if found and found[1] in self.expected:
            came = re.search(r"Got value: (.*)", message)
            value = f" is {came[1].strip()}" if came else " has a wrong value"
            raise UsageError(f"--{found[1]}{value}. Pass {self.expected[found[1]]}.")
        raise UsageError(f"{one_line(ValueError(message))} `{self.prog} --help` shows the options.")

    def parse(self, argv: Sequence[str]) -> jsonargparse.Namespace:
        """Parses the command line; the error for an unknown option names the nearest valid one."""
        known = [o for action in self._actions for o in action.option_strings if not o.endswith("+")]
        for word in argv[: argv.index("--") if "--" in argv else None]:
            option = word.split("=", 1)[0]
            if option.startswith("--") and len(option) > 2 and option.removesuffix("+") not in known:
                self._reject(option, known)
        return self.parse_args(list(argv))

    def _reject(self, option: str, known: Sequence[str]) -> NoReturn:
        """Raises UsageError for an unknown option, with the same name in another section, such as `--config.epochs` for
        `--epochs`; with the models that have such an argument; or with the nearest option."""
        section, _, name = option.removeprefix("--").replace("-", "_").rpartition(".")
        same = [other for other in known if other.rpartition(".")[2] == name and "." in other]
        found = [*same, *(other for other in known if other.endswith(f"_{name}") and "." in other)][:3]
        if found and not section:
            raise UsageError(f"Unknown option {option}. Pass {' or '.join(found)}.")
        if section == "model" and (able := families_with(name)):
            raise UsageError(
                f"Unknown option {option}: {', '.join(able)} have it. Choose one of these, or leave it out."
            )
        raise UsageError(f"Unknown option {option}. {did_you_mean(option, known, listing=f'{self.prog} --help')}")

    def add_signature(
        self, prefix: str, source: Callable[..., Any], title: str, *, skip: Collection[str], values: Mapping[str, Any]
    ) -> None:
        """Adds an option `--PREFIX.NAME` for every parameter, with its type, default and docstring.

        Args:
            prefix: the section of a configuration file, such as `model`.
            source: a function or a dataclass.
            title: heading of the options in `--help`.
            skip: parameters that do not become options.
            values: defaults from a configuration file.
        """
        texts = {p.arg_name: p.description for p in docstring_parser.parse(inspect.getdoc(source) or "").params}
        names = vars(sys.modules[source.__module__])
        group = self.add_argument_group(title)
        parameters = {n: p for n, p in inspect.signature(source).parameters.items() if n not in skip}
        parameters = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        fields = dataclasses.fields(source) if dataclasses.is_dataclass(source) else ()
        # A signature shows <factory> for a default that a factory makes, such as a list.
        made = {f.name: f.default_factory() for f in fields if f.default_factory is not dataclasses.MISSING}
        for name in values:
            if name not in parameters:
                raise UsageError(f"The configuration's {prefix}.{name} is unknown. {did_you_mean(name, parameters)}")
        for name, parameter in parameters.items():
            default = None if parameter.default is parameter.empty else made.get(name, parameter.default)
            # Parameters are resolved one by one: the return type may be imported for the type checker only.
            hint = eval(parameter.annotation, names) if isinstance(parameter.annotation, str) else parameter.annotation
            if hint is parameter.empty:
                hint = Any if default is None else type(default)
            hint = hint | None if default is None else hint
            is_empty = isinstance(default, (list, tuple)) and not default  # which is no example
            example = f", such as {_shown(default)}" if default is not None and not is_empty else ""
            self.expected[f"{prefix}.{name}"] = _type_name(hint) + example
            text = " ".join((texts.get(name) or "").split())
            group.add_argument(f"--{prefix}.{name}", type=hint, default=values.get(name, default), help=text)


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _type_name(hint: Any) -> str:
    """Returns the name of a type for an error message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(str(a) for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(
            [_type_name(a) for a in arguments if a is not type(None)] + ["null"] * (type(None) in arguments)
        )
    if origin is dict:
        example = "2" if arguments[1] in (int, float) else "text"
        return f"a mapping of names to {_plural(arguments[1])}, such as '{{name: {example}}}'"
    if origin is not None and arguments:
        example = ", such as '[0.1, 0.9]'" if arguments[0] is float else ""
        return f"a list of {_plural(arguments[0])}{example}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _plural(hint: Any) -> str:
    name = _type_name(hint).removeprefix("a ")
    return name if name.endswith("s") else f"{name}s"


def golden_of(words: list[str] | None) -> Any:
    """Returns the words of `--golden` as the argument `golden` of Python functions."""
    return words[0] if words is not None and words in (["generated"], ["test"], ["in memory"]) else words


def take_option(argv: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """Removes `--NAME VALUE` or `--NAME=VALUE` from a command line; returns the last value and the other arguments.

    The model, the data set and the configuration file decide which other options exist, so they are read first.
    """
    value, rest = None, []
    words = iter(argv)
    for word in words:
        if word == f"--{name}":
            value = next(words, None)
            if value is None or value.startswith("--"):
                raise UsageError(f"--{name} has no value. Pass --{name} NAME.")
        elif word.startswith(f"--{name}="):
            value = word.split("=", 1)[1]
        else:
            rest.append(word)
    return value, rest


def load_plugins(argv: Sequence[str]) -> list[str]:
    """Removes every `--plugin` from a command line and loads the plugins; returns the other arguments."""
    changes = "--allow-changed-plugins" in argv
    rest, found = [word for word in argv if word != "--allow-changed-plugins"], []
    while any(word == "--plugin" or word.startswith("--plugin=") for word in rest):
        place = next(i for i, word in enumerate(rest) if word == "--plugin" or word.startswith("--plugin="))
        width = 1 if "=" in rest[place] else 2
        source, _ = take_option(rest[place : place + width], "plugin")
        found.append(str(source))
        rest = rest[:place] + rest[place + width :]
    if found:
        import_tensorflow()  # most plugins import it; this silences its log lines
        from zoo.plugins import load_plugin

        for source in found:
            load_plugin(source, allow_changes=changes)
    return rest


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras quickly and without their log lines, which would hide a one-line error.

    `zoo.quiet` drops the first lines, which are written before any setting of TensorFlow takes effect.
    `TF_CPP_MIN_LOG_LEVEL=0` shows all log lines.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _light_imports():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def _light_imports() -> Iterator[None]:
    """Saves two fifths of the time that `import tensorflow` takes.

    Keras imports scikit-learn and matplotlib if they are installed, for wrappers and image galleries that no command
    uses. They are hidden during the import; a later import finds them. The garbage collector is paused, because it
    would search a million objects that all stay alive.
    """
    hidden = [name for name in ("sklearn", "matplotlib") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes their import fail
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def quiet_output(json: bool) -> Iterator[None]:
    """With `json`, moves what the block prints to standard error, so that standard output holds JSON alone."""
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        yield


def run_command(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 2, with one line on standard error, for a `UsageError`."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of classes may have letters that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        with option_words.read_by(option_words.COMMAND), lineage.typed(["zoo", *words]):
            return main(words) or 0
    except UsageError as error:
        print(f"zoo: {printable(remote.masked(str(error)))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        # The trainer's message tells how to resume; its status depends on the signal.
        print(f"zoo: {str(error) or 'interrupted.'}", file=sys.stderr)
        return int(getattr(error, "status", 130))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
