"""The design rules that ruff and import-linter cannot check: names, lengths, messages and texts.

Every rule is a function that maps a parsed source to complaints. Each rule runs over all sources and must find nothing.
Each rule also runs over snippets that break it and must find the fault. This proves that the rule can fail.
"""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"zoo": "zoo", "datasets": "zoo.datasets", "export": "zoo.export", "scripts": "zoo.scripts"}


def module_name(file: Path) -> str:
    """Returns the name under which a source file installs, such as zoo.datasets.data."""
    top, *rest = file.relative_to(ROOT).with_suffix("").parts
    return ".".join([FOLDERS[top], *(part for part in rest if part != "__init__")])


FILES = {module_name(file): file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))}
SOURCES = {name: file.read_text(encoding="utf-8") for name, file in FILES.items()}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}


def part_of(module: str) -> str:
    """Returns the part of the project that contains a module: its second name, or "" for the package zoo itself."""
    return module.split(".")[1] if "." in module else ""


# --- Imports ---------------------------------------------------------------------------------------------------------

SLOW = ("tensorflow", "keras", "tensorflow_datasets", "matplotlib", "sklearn", "pandas", "huggingface_hub")
COMPUTING = (
    "layers",
    "training",
    "evaluation",
    "analysis",
    "tuning",
    "datasets",
    "export",
    "pipeline",
    "tracking",
    "metrics",
    "lookup",
    "copies",
    "kernels",
    "predictions",
    "hashes",
    "stop_strings",
)
INSTANT = [
    name
    for name in FILES
    if part_of(name) not in COMPUTING or name in ("zoo.datasets", "zoo.datasets.sources.loading", "zoo.export")
    # Imported by a server, and by a benchmark; no commands of this package.
    if name not in ("zoo.scripts.mlserver_runtime.runtime", "zoo.scripts.benchmarks.keras_models")
]
IMPORTING = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({SLOW}))  # importing one of them is an error from here on
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_listing_and_help_do_not_import_slow_packages(run_python):
    run_python(IMPORTING, *INSTANT)


def test_indirect_imports_are_found(run_python):
    done = run_python(IMPORTING, "zoo.models.cnn", "zoo.layers.blocks", check=False)
    assert done.returncode and "import of keras halted" in done.stderr


def circle(trees: dict[str, ast.Module]) -> list[str]:
    """Returns modules that import each other in a circle, types only and inside functions included; empty without one."""
    imports: dict[str, set[str]] = {}
    for name, tree in trees.items():
        found = imports.setdefault(name, set())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {alias: f"{node.module}.{alias.name}" for alias in node.names}
                found |= {full if full in trees else node.module for full in whole.values()}
        found &= trees.keys() - {name}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_files_do_not_import_each_other_in_a_circle():
    assert circle(TREES) == []


def test_circles_of_imports_are_found():
    first = ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zoo.b import X")
    trees = {"zoo.a": first, "zoo.b": ast.parse("def f():\n    from zoo import a"), "zoo.c": ast.parse("import zoo.a")}
    assert sorted({*circle(trees)}) == ["zoo.a", "zoo.b"]
    assert circle({name: trees[name] for name in ("zoo.a", "zoo.c")}) == []


def bound_names(statements: list[ast.stmt]) -> set[str]:
    """Returns the names that the statements of a module bind, also within `if` and `try`."""
    names: set[str] = set()
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.If, ast.Try)):
            names |= bound_names([*node.body, *node.orelse])
        else:
            names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return names


BOUND = {name: bound_names(tree.body) for name, tree in TREES.items()}


def missing_names(tree: ast.Module) -> list[str]:
    """Returns imports of names that this package does not have, within functions too, where nobody else looks.

    mypy accepts every name of the package `zoo`, because its `__getattr__` provides the builders.
    """
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level and n.module in TREES]
    found = [(node.module, alias.name) for node in imports for alias in node.names]
    return [f"{m}.{name}" for m, name in found if name not in BOUND[m] and f"{m}.{name}" not in TREES]


def test_all_imported_names_exist():
    assert {name: missing for name, tree in TREES.items() if (missing := missing_names(tree))} == {}
    broken = "def late():\n    from zoo import gone, registry\n    from zoo.storage import read_json, write_jsn\n"
    assert missing_names(ast.parse(broken)) == ["zoo.gone", "zoo.storage.write_jsn"]


# --- Names and sizes -------------------------------------------------------------------------------------------------


def docstrings(tree: ast.AST) -> set[int]:
    """Returns the ids of all docstring nodes, including those of attributes and module variables."""
    return {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


def names_of_others(tree: ast.AST, names: list[str]) -> list[str]:
    skipped = docstrings(tree)
    return [
        f"line {node.lineno}: {node.value!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
        if any(re.search(rf"\b{re.escape(name)}\b", node.value) for name in names)
    ]


def test_trainer_evaluator_and_exporter_name_no_model_or_data_set():
    names = [*zoo.list_models(), *zoo.datasets.list_datasets()]
    known = {n: names_of_others(TREES[n], names) for n in FILES if part_of(n) in ("training", "evaluation", "export")}
    assert not {name: found for name, found in known.items() if found}


def test_comparisons_with_model_names_are_found():
    tree = ast.parse('"""About cnn."""\nif model == "cnn":\n    pass\nelif model.startswith("mlp-"):\n    pass')
    assert len(names_of_others(tree, ["cnn", "mlp"])) == 2


def lines_of_code(tree: ast.AST, text: str) -> int:
    """Counts the lines of a function or class, without blank lines, comments and docstrings."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            skipped.update(range(node.lineno, node.end_lineno + 1))
    lines = text.splitlines()
    numbers = range(tree.lineno, tree.end_lineno + 1)
    return sum(
        1 for n in numbers if n not in skipped and lines[n - 1].strip() and not lines[n - 1].lstrip().startswith("#")
    )


def too_long(
    tree: ast.AST, text: str, file_limit: int = 400, class_limit: int = 200, function_limit: int = 60
) -> list[str]:
    complaints = []
    if (count := len(text.splitlines())) > file_limit:
        complaints.append(f"{count} lines; split the file at {file_limit}")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (count := lines_of_code(node, text)) > function_limit:
            complaints.append(f"{node.name} has {count} lines of code; split it at {function_limit}")
        if isinstance(node, ast.ClassDef) and (count := lines_of_code(node, text)) > class_limit:
            complaints.append(f"{node.name} has {count} lines of code; split the class at {class_limit}")
    return complaints


def test_files_and_functions_are_within_the_limits():
    complaints = {name: too_long(tree, SOURCES[name]) for name, tree in TREES.items()}
    assert not {name: found for name, found in complaints.items() if found}


def test_long_files_and_functions_are_found():
    text = "def f():\n    '''One.\n\n    Two.\n    '''\n    # why\n\n" + "    x = 1\n" * 60
    assert too_long(ast.parse(text), text) == ["f has 61 lines of code; split it at 60"]
    assert too_long(ast.parse(""), "\n" * 401) == ["401 lines; split the file at 400"]
    assert not too_long(ast.parse(text), text, function_limit=61)
    long_class = "class A:\n" + "    x = 1\n" * 200
    assert too_long(ast.parse(long_class), long_class) == ["A has 201 lines of code; split the class at 200"]


# --- Messages --------------------------------------------------------------------------------------------------------

HINT = re.compile(
    r"\b(pass|try|call|choose|leave|install|put|use|give|rename|replace|check|convert|map|count|look|apply|build|remove|start|send|wait|correct|make|train|return|add|fix|set|name|let)\b"
    r"|known to work|`",
    re.IGNORECASE,
)
ERRORS = ("UsageError", "ValueError", "RuntimeError", "TypeError", "KeyError")


def pieces(node: ast.expr) -> list[str | ast.expr] | None:
    """Returns the texts of a message and the expressions between them; None for a message that is built elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [value.value for value in node.values]  # the text of a Constant, the expression of a FormattedValue
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = pieces(node.left), pieces(node.right)
        return None if left is None or right is None else left + right
    return None


def is_sentence(piece: str | ast.expr, tree: ast.AST) -> bool:
    """Returns whether an expression of a message is from `did_you_mean` or a variable that holds a sentence."""
    if isinstance(piece, ast.Call):
        return ast.unparse(piece.func).endswith("did_you_mean")
    if not isinstance(piece, ast.Name):
        return False
    handlers = [n for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.name == piece.id and n.type]
    around = [h for h in handlers if h.lineno <= piece.lineno <= h.end_lineno]
    if around and ast.unparse(around[-1].type) == "UsageError":
        return True  # a message of this package, passed on
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
        # A programmer's error may state only what was expected; a user's error also states what to type.
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


def test_errors_state_the_received_value_and_the_fix():
    complaints = {name: bad_messages(tree) for name, tree in TREES.items()}
    assert not {name: found for name, found in complaints.items() if found}


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
def test_incomplete_messages_are_found(source, complaint):
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
def test_complete_messages_are_accepted(source):
    assert not bad_messages(ast.parse(source))


def unflushed_prints(tree: ast.AST) -> list[str]:
    """In a pipe, unflushed text appears only when the process ends, so progress would arrive with the result."""
    return [
        f"line {node.lineno}: pass flush=True"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
        if not any(k.arg == "flush" and ast.unparse(k.value) == "True" for k in node.keywords)
    ]


def test_progress_prints_are_flushed():
    alone = (
        "zoo.export.standalone.replay",
        "zoo.export.standalone.probe",
        "zoo.export.standalone.convert_worker",
    )  # these run in separate processes
    complaints = {
        name: unflushed_prints(tree) for name, tree in TREES.items() if part_of(name) != "scripts" and name not in alone
    }
    assert not {name: found for name, found in complaints.items() if found}


def test_unflushed_prints_are_found():
    assert unflushed_prints(ast.parse("def f():\n    print('done')")) == ["line 2: pass flush=True"]
    assert not unflushed_prints(ast.parse("print('done', flush=True)"))


# --- Texts of every kind ---------------------------------------------------------------------------------------------

FORBIDDEN = {  # split so that this file passes its own rule
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


def test_texts_contain_no_forbidden_words():
    complaints = {file: forbidden_words(file.read_text(encoding="utf-8")) for file in TEXTS}
    assert not {file: found for file, found in complaints.items() if found}


def test_forbidden_words_are_found():
    for text in ("# TO_DO: later", "see /_home/ann/x", "pip -i https://pypi_.org/simple", "'/_work/main'"):
        assert len(forbidden_words(text.replace("_", ""))) == 1, text
    for text in ("https://host/home/x", "a/work/b", "~/home/x", "the method", "/proc/1/exe"):
        assert not forbidden_words(text), text
