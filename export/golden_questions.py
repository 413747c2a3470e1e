"""The golden examples of an artifact as questions to a runtime."""

from __future__ import annotations

from pathlib import Path

from zoo import storage
from zoo.errors import UsageError, one_line
from zoo.export import artifact_paths
from zoo.export.runtimes import comparison
from zoo.export.standalone import arrays


def questions(directory: Path) -> dict[str, comparison.Question]:
    """Returns the golden inputs and outputs of an artifact by signature.

    Raises:
        UsageError: golden.npz cannot be read.
    """
    file = directory / artifact_paths.EXTRA / "golden.npz"
    found: dict[str, comparison.Question] = {}
    try:
        golden, facts = arrays.load(file), storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
        targets, tolerance = golden.get(f"targets/{facts.get('classes')}"), float(facts["form"]["tolerance"])
        for name in sorted(facts["signatures"]):
            inputs, outputs = arrays.examples(golden, facts["signatures"], name)
            if inputs and outputs and not facts["signatures"][name].get("state"):  # golden.npz does not hold it
                found[name] = comparison.Question(
                    inputs, outputs, targets=targets, tolerance=tolerance, decided=facts.get("decided") or {}
                )
    except arrays.UNREADABLE as error:
        raise UsageError(
            f"{file} cannot be read as zoo.json describes it: {one_line(error)}. Run `zoo verify {directory}` for details."
        ) from error
    return found
