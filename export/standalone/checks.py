"""The checks of an artifact that need its files and the replay alone, and the table that shows them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from typing import Any

ROUNDING = 1e-5
"""Tolerance of an artifact whose outputs differ by the order of sums alone."""
_BLOCK = 1 << 20
_SUMS = "assets.extra/SHA256SUMS"

Row = dict[str, Any]
"""A check: name, passed (None for a check that could not be made), difference, detail, allowed."""


def row(
    name: str, passed: bool | None, difference: float | None = None, detail: str = "", allowed: float | None = None
) -> Row:
    """Returns a check as a dict.

    Example:
        >>> row("labels", True, detail="10, in the model's order")["passed"]
        True
    """
    return {"name": name, "passed": passed, "difference": difference, "detail": detail, "allowed": allowed}


def line(text: str) -> str:
    """Returns the text of an error as one line."""
    return " ".join(text.split())


def outcome(check: Row) -> str:
    """Returns the difference and the details of a check as a phrase."""
    shown = [] if check["difference"] is None else [f"largest difference {check['difference']:.2g}"]
    shown += [] if check["allowed"] is None else [f"allowed {check['allowed']:.2g}"]
    return ", ".join([*shown, *([check["detail"]] if check["detail"] else [])])


def lines(checks: list[Row]) -> list[str]:
    """Returns checks as lines of a table for a terminal."""
    width = max((len(check["name"]) for check in checks), default=0)
    words = {True: "ok", False: "FAILED", None: "-"}
    return [f"{words[check['passed']]:<7}{check['name']:<{width}}  {outcome(check)}" for check in checks]


def of_signatures(signatures: dict[str, Any]) -> list[Row]:
    """Returns the checks of a replay's signatures, `serving_default` first."""
    checks = []
    for name, seen in sorted(signatures.items(), key=lambda item: item[0] != "serving_default"):
        if "error" in seen:
            checks.append(row(name, False, detail=line(seen["error"])))
            continue
        for batch, outputs in seen["batches"].items():
            for found in outputs:
                title = f"{name} {found['output']}, batch {batch}"
                checks.append(row(title, found["passed"], found["difference"], found["detail"], found["allowed"]))
        if seen["accuracy"]:
            checks.append(row(f"{name}, accuracy", seen["accuracy"]["passed"], detail=seen["accuracy"]["detail"]))
        detail = line(seen["empty"]["detail"])
        checks.append(row(f"{name}, empty batch", seen["empty"]["passed"], detail=detail))
    return checks


def of_facts(directory: str, weights: dict[str, Any]) -> list[Row]:
    """Compares weights and labels with zoo.json. The examples alone would miss a wrong weight or label that none of them
    uses."""
    with open(os.path.join(directory, "assets.extra", "zoo.json"), encoding="utf-8") as file:
        facts = json.load(file)
    live = facts.get("weights_sha256")
    same = weights["sha256"] == facts.get("served_weights_sha256", live)
    how = f" {facts['form']['weights']}" if weights["sha256"] != live else ""
    detail = f"identical to the trained model's{how}" if same else "different from the trained model's"
    checks = [row("weights", same, detail=f"{weights['count']} tensors, {detail}")]
    form = facts["form"]
    if form["tolerance"] > ROUNDING:  # a higher tolerance is the artifact's own claim, so it is shown
        note = f"{form['name']} allows outputs to differ by {form['tolerance']:g}: {form['reason']}"
        checks.append(row("form", True, detail=note))
    names = facts["class_names"]
    if names:
        labels = os.path.join(directory, "assets", "labels.txt")
        held = []
        if os.path.isfile(labels):
            with open(labels, encoding="utf-8", errors="replace", newline="") as file:
                held = file.read().split("\n")[:-1]
        pairs = enumerate(itertools.zip_longest(held, names), 1)
        wrong = [f"line {i} is {a!r}, expected {b!r}" for i, (a, b) in pairs if a != b]
        checks.append(row("labels", not wrong, detail="; ".join(wrong[:3]) or f"{len(names)}, in the model's order"))
    return checks


def files(directory: str) -> list[str]:
    """Returns all files of an artifact except SHA256SUMS, as sorted relative paths with forward slashes."""
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            found.append(os.path.relpath(os.path.join(folder, name), directory).replace(os.sep, "/"))
    return in_order(name for name in found if name != _SUMS)


def in_order(names: Iterable[str]) -> list[str]:
    """Returns paths sorted by folder."""
    return sorted(names, key=lambda name: name.split("/"))


def sha256(file: str) -> str:
    """Returns the hash of a file."""
    found = hashlib.sha256()
    with open(file, "rb") as opened:
        while block := opened.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def changed_files(directory: str) -> list[str]:
    """Returns a message for every file of an artifact that is changed, missing or not listed in SHA256SUMS."""
    sums = os.path.join(directory, *_SUMS.split("/"))
    if not os.path.isfile(sums):
        return [f"{_SUMS} is missing"]
    with open(sums, encoding="utf-8", errors="replace", newline="") as file:
        text = file.read()
    listed = {name: digest for digest, _, name in (entry.partition("  ") for entry in text.split("\n")[:-1])}
    present = {*files(directory)}
    wrong = [f"{name} is missing" for name in in_order({*listed} - present)]
    wrong += [f"{name} is not listed" for name in in_order(present - {*listed})]
    held = in_order(present & {*listed})
    wrong += [f"{name} was changed" for name in held if sha256(os.path.join(directory, name)) != listed[name]]
    if not wrong and text != "".join(f"{listed[name]}  {name}\n" for name in in_order(listed)):
        wrong.append(f"{_SUMS} was changed")  # in the separators between hashes and names
    return wrong


def of_sums(directory: str) -> Row:
    """Compares the files of an artifact with its SHA256SUMS."""
    wrong = changed_files(directory)
    return row("SHA256SUMS", not wrong, detail="; ".join(wrong[:3]) or f"{len(files(directory))} files unchanged")
