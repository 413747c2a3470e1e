"""The lists in setup.cfg that decide what `pip install .` installs. An editable install works without them."""

from __future__ import annotations

import configparser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKOUT_ONLY = ("README.md", "zoo/PLUGINS.md", "*.sh", "scripts/recipes/*.png", "scripts/notebooks/*")
"""Files that no installed code reads: documents, and scripts that run in a checkout."""


def entries(text: str) -> list[str]:
    return text.replace(",", "\n").split()


def left_out(root: Path, settings: configparser.ConfigParser) -> list[str]:
    """Returns the files of the package that `pip install` leaves out, although installed code may need them."""
    folders = dict(map(str.strip, line.split("=")) for line in settings["options"]["package_dir"].split("\n") if line)
    packages = set(entries(settings["options"]["packages"]))
    data = {name: entries(patterns) for name, patterns in settings["options.package_data"].items()}
    installed, found = set(), set()
    for module, folder in folders.items():
        for file in (root / folder).rglob("*"):
            if not file.is_file() or "__pycache__" in file.parts:
                continue
            found.add(file)
            package = ".".join([module, *file.parent.relative_to(root / folder).parts])
            if file.suffix == ".py" and package in packages:
                installed.add(file)
    for package in packages:
        module = max((name for name in folders if f"{package}.".startswith(f"{name}.")), key=len)
        folder = root / folders[module] / package.removeprefix(module).replace(".", "/").lstrip("/")
        for pattern in data.get(package, []):
            installed |= set(folder.glob(pattern))
    missing = (file.relative_to(root) for file in found - installed)
    return sorted(str(file) for file in missing if not any(file.match(pattern) for pattern in CHECKOUT_ONLY))


def settings() -> configparser.ConfigParser:
    read = configparser.ConfigParser()
    read.read(ROOT / "setup.cfg", encoding="utf-8")
    return read


def test_a_plain_install_has_every_module_and_data_file():
    assert left_out(ROOT, settings()) == [], (
        "Add the package to `packages`, or the file to `package_data`, in setup.cfg"
    )


def test_listed_packages_exist():
    every = {str(file.parent.relative_to(ROOT)) for file in ROOT.glob("*/**/__init__.py")}
    for package in entries(settings()["options"]["packages"]):
        folder = package.replace(".", "/")
        assert folder in every or folder.removeprefix("zoo/") in every, package


def test_forgotten_packages_and_data_files_are_found():
    read = settings()
    read["options"]["packages"] = read["options"]["packages"].replace("zoo.tables", "")
    read["options.package_data"]["zoo.export.extras"] = ""
    assert {"zoo/tables/__init__.py", "export/extras/request.c"} <= set(left_out(ROOT, read))
