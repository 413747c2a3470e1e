"""What a verification finds: a line for everything that was checked, and the verdict on all of it."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError, printable
from zoo.export import artifact_paths


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of a verdict: what was checked, whether it held, the largest difference where numbers were compared.

    `passed` is None for what could not be checked and was not promised either; `detail` says why. `allowed` is the largest
    difference that would have passed: the tolerance, times the output's largest value where that is above 1.
    """

    name: str
    passed: bool | None
    difference: float | None = None
    detail: str = ""
    allowed: float | None = None


@dataclasses.dataclass(frozen=True)
class Verification:
    """The verdict on an artifact.

    Attributes:
        path: the version folder.
        checks: what was checked.
        runtime: versions of what it was checked with.
        runtimes: what came of each other runtime: `agrees`, `differs`, `cannot be converted` or `not installed`.
        proof: whether the artifact carries golden examples; without, agreement proves nothing of what was trained.
    """

    path: Path
    checks: tuple[Check, ...]
    runtime: dict[str, str]
    runtimes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    proof: bool = True

    @property
    def passed(self) -> bool:
        """Whether every check held that could be made."""
        return all(check.passed is not False for check in self.checks)

    @property
    def failures(self) -> str:
        """The checks that did not hold, in one line."""
        return "; ".join(f"{c.name}: {_outcome(c)}" for c in self.checks if c.passed is False)

    def to_dict(self) -> dict[str, Any]:
        """Returns the contents of verification.json."""
        return {
            "passed": self.passed,
            "proof": self.proof,
            "runtime": self.runtime,
            "runtimes": dict(self.runtimes),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "checks": [dataclasses.asdict(check) for check in self.checks],
        }

    @classmethod
    def read(cls, path: str | Path) -> Verification:
        """Reads the verdict that was reached when the artifact was written, without checking anything again.

        Args:
            path: a version folder, the folder above it (then the newest version counts), or a run.

        Raises:
            UsageError: there is no SavedModel, or it carries no verdict.
        """
        directory = artifact_paths.find(path)
        file = directory / artifact_paths.EXTRA / "verification.json"
        if not file.is_file():
            raise UsageError(f"{directory} carries no verdict. `zoo export` writes SavedModels that carry one.")
        return cls.of(directory, file)

    @classmethod
    def of(cls, directory: Path, file: Path) -> Verification:
        """Reads a verification.json, of an earlier version too.

        Raises:
            UsageError: it is none.
        """
        fields = {field.name for field in dataclasses.fields(Check)}
        try:
            content = storage.read_json(file)
            checks = tuple(Check(**{k: v for k, v in check.items() if k in fields}) for check in content["checks"])
            runtime, others = dict(content["runtime"]), dict(content.get("runtimes") or {})
            return cls(directory, checks, runtime, others, bool(content.get("proof", True)))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{file} cannot be read: {error}. `zoo verify {directory}` checks anew.") from error

    def table(self) -> str:
        """Returns the verdict as a table for a terminal."""
        width = max((len(check.name) for check in self.checks), default=0)
        words = {True: "ok", False: "FAILED", None: "-"}
        lines = [f"{words[c.passed]:<7}{c.name:<{width}}  {_outcome(c)}" for c in self.checks]
        verdict = "verified" if self.passed else "NOT VERIFIED"
        if not self.proof:
            # Never the word of an artifact that has a proof.
            verdict = "what could be checked holds" if self.passed else "FAILED"
            verdict += "; it carries no proof of what was trained"
        versions = ", ".join(f"{name} {version}" for name, version in self.runtime.items())
        return "\n".join(printable(line) for line in [*lines, f"{self.path}: {verdict} ({versions})"])


def _outcome(check: Check) -> str:
    shown = [] if check.difference is None else [f"largest difference {check.difference:.2g}"]
    shown += [] if check.allowed is None else [f"allowed {check.allowed:.2g}"]
    return ", ".join([*shown, *([check.detail] if check.detail else [])])
