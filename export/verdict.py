"""The result of a verification: one line per check, and the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import display, remote, storage
from zoo.errors import UsageError, printable
from zoo.export import artifact_paths
from zoo.export.standalone import checks as standalone

_MOST_FAILURES = 3
_WORDS = {True: "ok", False: "FAILED", None: "-"}


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of a verdict: what was checked, whether it passed, and the largest difference between numbers.

    `passed` is None for an optional check that could not be made; `detail` gives the reason. `allowed` is the largest
    difference that would have passed: the tolerance, multiplied by the output's largest value if that is above 1.
    """

    name: str
    passed: bool | None
    difference: float | None = None
    detail: str = ""
    allowed: float | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Verification:
    """The verdict on an artifact.

    Attributes:
        path: the version folder.
        checks: the checks.
        runtime: versions of TensorFlow, Python and the other runtimes.
        runtimes: the result of each other runtime: `agrees`, `differs`, `cannot be converted` or `not installed`.
        proof: whether the artifact has golden examples; without them, nothing shows that it equals the trained model.
    """

    path: Path
    checks: tuple[Check, ...]
    runtime: dict[str, str]
    runtimes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    proof: bool = True

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    @property
    def failures(self) -> str:
        """The failed checks in one line."""
        return "; ".join(
            f"{c.name}: {standalone.outcome(dataclasses.asdict(c))}" for c in self.checks if c.passed is False
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the contents of verification.json. It has no time, so that equal artifacts are equal byte by byte."""
        return {
            "passed": self.passed,
            "proof": self.proof,
            "runtime": self.runtime,
            "runtimes": dict(self.runtimes),
            "checks": [dataclasses.asdict(check) for check in self.checks],
        }

    @classmethod
    def read(cls, path: str | Path) -> Verification:
        """Reads the verdict that was recorded when the artifact was written, without checking it again.

        Args:
            path: a version folder, its parent folder (the newest version is read), or a run directory.

        Raises:
            UsageError: there is no SavedModel, or it carries no verdict.
        """
        directory = artifact_paths.find(path)
        file = directory / artifact_paths.EXTRA / "verification.json"
        if not file.is_file():
            raise UsageError(f"{directory} has no recorded verdict. `zoo export` writes SavedModels with one.")
        return cls.of(directory, file)

    @classmethod
    def of(cls, directory: Path, file: Path) -> Verification:
        """Reads a verification.json, including files of earlier versions.

        Raises:
            UsageError: the file is invalid.
        """
        fields = {field.name for field in dataclasses.fields(Check)}
        try:
            content = storage.read_json(file)
            checks = tuple(Check(**{k: v for k, v in check.items() if k in fields}) for check in content["checks"])
            runtime, others = dict(content["runtime"]), dict(content.get("runtimes") or {})
            return cls(directory, checks, runtime, others, bool(content.get("proof", True)))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{file} cannot be read: {error}. `zoo verify {directory}` checks it again.") from error

    def __repr__(self) -> str:
        failed = [dataclasses.asdict(check) for check in self.checks if check.passed is False]
        count = f"{len(self.checks)} check{'s' * (len(self.checks) != 1)}{', failed:' if failed else ''}"
        lines = [self._verdict(), count, *standalone.lines(failed[:_MOST_FAILURES])]
        return "\n".join(map(printable, lines))

    def _repr_html_(self) -> str:
        checks = [dataclasses.asdict(check) for check in self.checks]
        rows = [[_WORDS[check["passed"]], check["name"], standalone.outcome(check)] for check in checks]
        title = f"<b>{display.escaped(self._verdict())}</b>"
        return display.stacked([title, display.table(["", "check", "result"], rows)])

    def table(self) -> str:
        """Returns the verdict as a table for a terminal."""
        lines = standalone.lines([dataclasses.asdict(check) for check in self.checks])
        return "\n".join(printable(line) for line in [*lines, self._verdict()])

    def _verdict(self) -> str:
        verdict = "verified" if self.passed else "NOT VERIFIED"
        if not self.proof:
            # Not the word "verified", which needs golden examples.
            verdict = "all possible checks passed" if self.passed else "FAILED"
            verdict += "; no training proof is available"
        versions = ", ".join(f"{name} {version}" for name, version in self.runtime.items())
        return f"{remote.shown(self.path)}: {verdict} ({versions})"
