"""The design, checked on the sources: who imports whom, what loads TensorFlow, how long things are, how errors read.

Every rule is a function from a parsed source to complaints. It runs over all sources, which must give none, and over a
snippet that breaks it, which must give one: a rule that cannot fail proves nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"zoo": "zoo", "datasets": "zoo.datasets", "export": "zoo.export", "scripts": "zoo.scripts"}


def module_name(file: Path) -> str:
    """Returns the name under which a source installs, such as zoo.datasets.data."""
    top, *rest = file.relative_to(ROOT).with_suffix("").parts
    return ".".join([FOLDERS[top], *(part for part in rest if part != "__init__")])


FILES = {module_name(file): file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}
PACKAGES = {name for name, file in FILES.items() if file.name == "__init__.py"}
every_module = pytest.mark.parametrize("name", sorted(FILES))


def part_of(module: str) -> str:
    """Returns which part of the project a module belongs to: its second name, and "" for the package zoo itself."""
    return module.split(".")[1] if "." in module else ""


# --- Imports ---------------------------------------------------------------------------------------------------------


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(name: str, tree: ast.AST, *, lazy: bool = True, typing: bool = False) -> Iterator[str]:
    """Yields the modules that a source imports.

    Args:
        name: the source's own module name.
        tree: its parsed text.
        lazy: whether imports inside functions count.
        typing: whether imports that only the type checker makes count.
    """
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node) and not typing:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazy:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")[: len(name.split(".")) - node.level + (name in PACKAGES)]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in FILES else base
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            text = re.match(r"f?['\"]([\w.]+)", ast.unparse(node.args[0]))
            yield from [text[1].rstrip(".")] if text else []
        yield from imports(name, node, lazy=lazy, typing=typing)


BASICS = {"errors", "storage", "_version"}
CORE = {"registry", "tasks", "config", "metrics", "resident", "lookup", "checkpoints", *BASICS}
KNOWS: dict[str, set[str]] = {
    **dict.fromkeys(CORE, BASICS),
    "tasks": {*BASICS, "metrics"},
    "checkpoints": {*BASICS, "registry", "checkpoints"},
    "layers": {*BASICS, "layers"},
    "models": {*BASICS, "registry", "layers", "models", "checkpoints"},
    **{part: {*CORE, part} for part in ("training", "evaluation", "datasets", "export")},
}
ALL = {part_of(name) for name in FILES}
KNOWS["pipeline"] = ALL - {"scripts", ""}
KNOWS[""] = ALL - {"scripts", ""}
KNOWS["scripts"] = ALL


# By a name that is put together: the registry scans the folder of models and knows none of them.
SCANNED = {("zoo.registry", "zoo.models"), ("zoo", "zoo")}


def test_every_part_has_a_rule():
    assert set(KNOWS) == ALL


def wrong_imports(name: str, tree: ast.AST) -> list[str]:
    part = part_of(name)
    complaints = []
    for target in imports(name, tree):
        if target.split(".")[0] != "zoo":
            continue
        if (name, target) in SCANNED:
            continue
        if part_of(target) not in KNOWS[part]:
            complaints.append(f"{name} imports {target}; {part or 'zoo'} knows only {', '.join(sorted(KNOWS[part]))}")
    for target in imports(name, tree, typing=True):
        if target.split(".")[0] == "zoo" and part_of(target) in {"scripts"} - KNOWS[part]:
            complaints.append(f"{name} imports {target}, even if only for types")
    return complaints


@every_module
def test_imports_go_one_way(name):
    assert not wrong_imports(name, TREES[name])


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("zoo.config", "from zoo import registry"),
        ("zoo.errors", "import zoo.storage as s\nfrom zoo.tasks import get_task"),
        ("zoo.tasks", "import zoo"),
        ("zoo.layers.blocks", "def f():\n    from zoo.registry import get_spec"),
        ("zoo.models.cnn", "from zoo.training import train"),
        ("zoo.checkpoints.bert_folder", "def f():\n    from zoo.models import bert"),
        ("zoo.registry", "def f():\n    from zoo import checkpoints"),
        ("zoo.training.loop", "from zoo.export import artifact"),
        ("zoo.training.loop", "from ..datasets import data"),
        ("zoo.evaluation.evaluator", "import importlib\nimportlib.import_module('zoo.datasets.data')"),
        ("zoo.datasets.data", "from zoo.models import cnn"),
        ("zoo.export.artifact", "from zoo import pipeline"),
        ("zoo.pipeline", "from zoo.scripts.console import Parser"),
        ("zoo.export.card", "if TYPE_CHECKING:\n    from zoo.scripts import cli"),
    ],
)
def test_an_import_against_the_direction_is_found(name, source):
    assert wrong_imports(name, ast.parse(source))


def test_types_of_what_is_handed_over_may_be_imported():
    source = "if TYPE_CHECKING:\n    from zoo.datasets.data import Prepared"
    assert not wrong_imports("zoo.evaluation.evaluator", ast.parse(source))


SLOW = {"tensorflow", "keras", "tensorflow_datasets", "matplotlib", "sklearn", "pandas"}
IMPORTED_BY_OTHERS = {"zoo.scripts.mlserver_runtime.runtime"}  # a server's part, no command of this package
INSTANT = [
    name
    for name in FILES
    if name not in IMPORTED_BY_OTHERS
    if part_of(name) in {"", "models", "scripts", *CORE} - {"metrics", "lookup"}
    or name in ("zoo.datasets", "zoo.datasets.sources", "zoo.export")
]


def brought_in(name: str, trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Returns what importing a module imports with it, each with the way there."""
    ways = {name: [name]}
    waiting = [name]
    while waiting:
        here = waiting.pop()
        if here not in trees:
            continue
        for target in imports(here, trees[here], lazy=False):
            parents = [".".join(target.split(".")[: i + 1]) for i in range(target.count(".") + 1)]
            for found in parents:
                if found not in ways:
                    ways[found] = [*ways[here], found]
                    waiting.append(found)
    return ways


def slow_imports(name: str, trees: dict[str, ast.Module]) -> list[str]:
    ways = brought_in(name, trees)
    return [f"importing {name} imports {slow}: {' -> '.join(ways[slow])}" for slow in sorted(SLOW & set(ways))]


@pytest.mark.parametrize("name", sorted(INSTANT))
def test_listing_and_help_wait_for_nothing(name):
    assert not slow_imports(name, TREES)


def test_what_is_brought_in_on_the_way_is_found():
    trees = {
        "zoo.models.cnn": ast.parse("from zoo.layers import blocks"),
        "zoo.layers.blocks": TREES["zoo.layers.blocks"],
    }
    (complaint,) = slow_imports("zoo.models.cnn", trees)
    assert complaint == "importing zoo.models.cnn imports keras: zoo.models.cnn -> zoo.layers.blocks -> keras"


# --- Names and sizes -------------------------------------------------------------------------------------------------


def docstrings(tree: ast.AST) -> set[int]:
    """Returns the ids of all docstring nodes, those of attributes and module variables included."""
    return {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


def names_of_others(tree: ast.AST, names: list[str]) -> list[str]:
    skipped = docstrings(tree)
    return [
        f"line {node.lineno}: {node.value!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
        if any(re.search(rf"\b{re.escape(name)}\b", node.value) for name in names)
    ]


@pytest.mark.parametrize("name", [n for n in sorted(FILES) if part_of(n) in ("training", "evaluation", "export")])
def test_trainer_evaluator_and_exporter_know_no_model_and_no_data_set(name):
    assert not names_of_others(TREES[name], [*zoo.list_models(), *zoo.datasets.list_datasets()])


def test_a_ladder_on_names_is_found():
    tree = ast.parse('"""About cnn."""\nif model == "cnn":\n    pass\nelif model.startswith("mlp-"):\n    pass')
    assert len(names_of_others(tree, ["cnn", "mlp"])) == 2


def lines_of_code(tree: ast.AST, text: str) -> int:
    """Counts the lines of a function that are neither blank nor comment nor docstring."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            skipped.update(range(node.lineno, node.end_lineno + 1))
    lines = text.splitlines()
    numbers = range(tree.lineno, tree.end_lineno + 1)
    return sum(
        1 for n in numbers if n not in skipped and lines[n - 1].strip() and not lines[n - 1].lstrip().startswith("#")
    )


def too_long(tree: ast.AST, text: str, file_limit: int = 450, function_limit: int = 70) -> list[str]:
    complaints = []
    if (count := len(text.splitlines())) > file_limit:
        complaints.append(f"{count} lines; split the file at {file_limit}")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (count := lines_of_code(node, text)) > function_limit:
            complaints.append(f"{node.name} has {count} lines of code; split it at {function_limit}")
    return complaints


@every_module
def test_nothing_is_too_long(name):
    assert not too_long(TREES[name], FILES[name].read_text(encoding="utf-8"))


def test_what_is_too_long_is_found():
    text = "def f():\n    '''One.\n\n    Two.\n    '''\n    # why\n\n" + "    x = 1\n" * 70
    assert too_long(ast.parse(text), text) == ["f has 71 lines of code; split it at 70"]
    assert too_long(ast.parse(""), "\n" * 451) == ["451 lines; split the file at 450"]
    assert not too_long(ast.parse(text), text, function_limit=71)


def without_docstring(tree: ast.AST, path: str = "") -> list[str]:
    """Returns public functions, classes and methods that say nothing; what is inside a function is nobody's business."""
    missing = []
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            if isinstance(node, ast.If | ast.Try):
                missing += without_docstring(node, path)
            continue
        if node.name.startswith("_") and node.name != "__call__":
            continue
        if not ast.get_docstring(node):
            missing.append(f"{path}{node.name} has no docstring")
        if isinstance(node, ast.ClassDef):
            missing += without_docstring(node, f"{path}{node.name}.")
    return missing


@every_module
def test_everything_public_says_what_it_is(name):
    assert name == "zoo.scripts" or ast.get_docstring(TREES[name])
    assert not without_docstring(TREES[name])


def test_a_missing_docstring_is_found():
    tree = ast.parse(
        "class A:\n    '''A.'''\n    def f(self): pass\n    def _g(self): pass\ndef h():\n    def i(): pass"
    )
    assert without_docstring(tree) == ["A.f has no docstring", "h has no docstring"]


# --- Messages --------------------------------------------------------------------------------------------------------

HINT = re.compile(
    r"\b(pass|try|call|choose|leave|install|put|use|give|rename|replace|check|convert|map|count|look|apply|build|remove|start|send|wait|correct|make)\b"
    r"|known to work|`",
    re.IGNORECASE,
)
ERRORS = ("UsageError", "ValueError", "RuntimeError", "TypeError", "KeyError")


def pieces(node: ast.expr) -> list[str | ast.expr] | None:
    """Returns a message as its texts and the expressions between them; None for what is put together elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [value.value for value in node.values]  # of a Constant the text, of a FormattedValue the expression
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = pieces(node.left), pieces(node.right)
        return None if left is None or right is None else left + right
    return None


def is_sentence(piece: str | ast.expr, tree: ast.AST) -> bool:
    """Whether an expression in a message is the sentence of `did_you_mean`, or a variable that holds a sentence."""
    if isinstance(piece, ast.Call):
        return ast.unparse(piece.func).endswith("did_you_mean")
    if not isinstance(piece, ast.Name):
        return False
    handlers = [n for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.name == piece.id and n.type]
    around = [h for h in handlers if h.lineno <= piece.lineno <= h.end_lineno]
    if around and ast.unparse(around[-1].type) == "UsageError":
        return True  # a message of our own, passed on
    values = [n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == piece.id]
    last = [(pieces(value) or [value])[-1] for value in values]
    return bool(last) and all(p.endswith((".", "?")) if isinstance(p, str) else is_sentence(p, tree) for p in last)


def bad_messages(tree: ast.AST) -> list[str]:
    complaints = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        callee = ast.unparse(node.exc.func)
        if callee.split(".")[-1] not in ERRORS:
            continue
        parts = pieces(node.exc.args[0]) if node.exc.args else []
        text = "".join(part for part in parts or () if isinstance(part, str))
        # A programmer's error may leave it at what was expected; a user's says what to type.
        says = HINT.search(text) or ("expected" in text and not callee.endswith("UsageError"))
        where = f"line {node.lineno}: {ast.unparse(node.exc)}"
        if parts is None:
            complaints.append(f"{where} is put together elsewhere; write it where it is raised")
            continue
        if re.search(r"\{[A-Za-z_][\w.]*(![rsa])?(:[^}]*)?\}", text):
            complaints.append(f"{where} shows a name in braces; the f is missing")
        last = parts[-1] if parts else ""
        if not is_sentence(last, tree) and not (isinstance(last, str) and last.endswith((".", "?", "!"))):
            complaints.append(f"{where} does not end like a sentence")
        if not says and not any(is_sentence(p, tree) for p in parts):
            complaints.append(f"{where} does not say what to do")
    return complaints


@every_module
def test_errors_say_what_came_and_what_to_do(name):
    assert not bad_messages(TREES[name])


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ('raise UsageError("No {name}. Pass another.")', "the f is missing"),
        ('raise UsageError(f"A {a} " "and {b!r}. Pass another.")', "the f is missing"),
        ('raise errors.UsageError(f"No {name}. Pass another")', "does not end like a sentence"),
        ('raise UsageError(f"No {name}; pass {other}")', "does not end like a sentence"),
        ('hint = "a run"\nraise UsageError(f"No {name}. Pass {hint}")', "does not end like a sentence"),
        ('raise UsageError(f"There is no {name}.")', "does not say what to do"),
        ('raise ValueError("It is wrong.")', "does not say what to do"),
        ('raise UsageError(f"{a} is {b!r}; expected more.")', "does not say what to do"),
        ('try:\n    f()\nexcept OSError as error:\n    raise UsageError(f"Pass {error}")', "does not end like a sent"),
        ("raise UsageError()", "does not end like a sentence"),
        ("raise UsageError(message)", "put together elsewhere"),
    ],
)
def test_a_bad_message_is_found(source, complaint):
    assert any(complaint in found for found in bad_messages(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        'raise UsageError(f"Unknown {name!r}. {did_you_mean(name, known)}")',
        'near = did_you_mean(name, known)\nraise UsageError(f"Unknown {name!r}. {near}")',
        'raise UsageError(f"{a} is {b!r}; expected more than {c}. " "Pass 3, say.") from error',
        'raise ValueError("No run. `zoo train` makes one.")',
        'raise TypeError(f"{a} is {b!r}; expected bytes.")',
        'try:\n    f()\nexcept UsageError as error:\n    raise UsageError(f"In {file}: {error}") from error',
        "raise AttributeError(name)",
        "raise",
    ],
)
def test_a_good_message_is_left_alone(source):
    assert not bad_messages(ast.parse(source))


def careless_statements(name: str, tree: ast.AST) -> list[str]:
    complaints = []
    alone = ("zoo.export.replay", "zoo.export.probe", "zoo.export.worker")  # scripts too, in processes of their own
    speaks = part_of(name) == "scripts" or name in alone
    reports = name in ("zoo.pipeline", "zoo.datasets.sources") or part_of(name) == "training"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print" and not speaks:
            flushed = any(k.arg == "flush" and ast.unparse(k.value) == "True" for k in node.keywords)
            if not reports or not flushed:
                complaints.append(f"line {node.lineno}: a library prints progress with flush=True, or nothing")
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                complaints.append(f"line {node.lineno}: a bare except catches Ctrl-C too")
            elif ast.unparse(node.type) in ("Exception", "BaseException") and isinstance(node.body[-1], ast.Pass):
                complaints.append(f"line {node.lineno}: every error is swallowed")
    return complaints


@every_module
def test_nothing_is_printed_or_swallowed(name):
    assert not careless_statements(name, TREES[name])


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("zoo.export.card", "print('done', flush=True)"),
        ("zoo.training.loop", "print('done')"),
        ("zoo.scripts.train", "try:\n    f()\nexcept:\n    raise"),
        ("zoo.tasks", "try:\n    f()\nexcept Exception:\n    pass"),
    ],
)
def test_careless_statements_are_found(name, source):
    assert careless_statements(name, ast.parse(source))


# --- Texts of every kind ---------------------------------------------------------------------------------------------

FORBIDDEN = {  # written so that this file passes its own rule
    "unfinished work": r"\b([T]ODO|[F]IXME|[X]XX)\b",
    "a path of one machine": r"(?<![\w.~/-])/(home|root|Users|work|tmp/env)/[\w]",
    "a package registry": r"\b([p]ypi\.org|[p]ythonhosted\.org|[a]naconda\.org|[n]pmjs\.(org|com))\b",
}
TEXTS = [
    file
    for folder in (*FOLDERS, "tests", ".ci", ".")
    for file in sorted((ROOT / folder).glob("*" if folder == "." else "**/*"))
    if file.suffix in (".py", ".sh", ".md", ".cfg", ".toml", ".yaml", ".yml", ".txt") or file.parent.name == ".ci"
    if file.is_file()
]


def forbidden_words(text: str) -> list[str]:
    return [f"{what}: {found[0]!r}" for what, pattern in FORBIDDEN.items() for found in re.finditer(pattern, text)]


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_texts_hold_nothing_of_the_workshop(file):
    assert not forbidden_words(file.read_text(encoding="utf-8"))


def test_forbidden_words_are_found():
    for text in ("# TO_DO: later", "see /_home/ann/x", "pip -i https://pypi_.org/simple", "'/_work/main'"):
        assert len(forbidden_words(text.replace("_", ""))) == 1, text
    for text in ("https://host/home/x", "a/work/b", "~/home/x", "the method", "/proc/1/exe"):
        assert not forbidden_words(text), text
