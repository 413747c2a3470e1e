"""`assets.extra/verify.py`: the stand-alone check of an artifact in one file, made of the modules that `zoo verify` runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from zoo.export import standalone

NAME = "verify.py"
_PARTS = ("arrays", "compare", "checks", "replay", "verify")
"""Modules in the order in which they need each other."""


def verify_script() -> str:
    """Returns the program: the definitions of all parts, which import nothing but NumPy and TensorFlow.

    Example:
        >>> verify_script().splitlines()[0]
        '#!/usr/bin/env python3'
    """
    folder = Path(standalone.__file__).parent
    imports: dict[str, set[str]] = {}
    modules: set[str] = set()
    text, known, is_plain = "", set[str](), False
    for part in _PARTS:
        source = (folder / f"{part}.py").read_text(encoding="utf-8")
        for node in ast.parse(source).body[1:]:
            if isinstance(node, ast.Import):
                modules.add(ast.unparse(node))
            elif isinstance(node, ast.ImportFrom):
                imports.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
            elif not isinstance(node, ast.If) or (part == _PARTS[-1] and "__main__" in ast.unparse(node.test)):
                names = {node.name} if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else set()
                assert not names & known, f"{names & known} is defined in two parts"
                known |= names
                was_plain, is_plain = is_plain, not names and not isinstance(node, ast.If)
                text += ("\n" if was_plain and is_plain else "\n\n\n") + _code(source, node, part)
    imports["typing"] -= {"TYPE_CHECKING"}
    del imports["__future__"]
    chosen = [f"from {module} import {', '.join(sorted(names))}" for module, names in imports.items()]
    chosen += [module for module in modules if "numpy" not in module]
    first = ["#!/usr/bin/env python3", f'"""{_about(folder)}\n"""', "", "from __future__ import annotations", ""]
    return "\n".join([*first, *sorted(chosen, key=str.casefold), "", "import numpy as np"]) + text + "\n"


def _about(folder: Path) -> str:
    """Returns the description at the head of the last part."""
    return str(ast.get_docstring(ast.parse((folder / f"{_PARTS[-1]}.py").read_text(encoding="utf-8"))))


def _code(source: str, node: ast.stmt, part: str) -> str:
    """Returns a definition; those of the last parts name the definitions of other parts without their module."""
    lines = source.splitlines()
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    text = "\n".join(lines[first - 1 : node.end_lineno])
    return _unqualified(text) if part in _PARTS[-2:] else text


def _unqualified(text: str) -> str:
    """Returns code that names the definitions of the other parts without their module."""
    return re.sub(rf"\b(?:{'|'.join(_PARTS)})\.(?=[a-z_]+\b)", "", text)
