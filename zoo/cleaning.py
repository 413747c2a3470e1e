"""Frees the disk space of finished runs: their checkpoints, which only a run that goes on needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from zoo import storage
from zoo.errors import UsageError, one_line


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """What `clean` found in a run.

    Attributes:
        run: its folder.
        freed: bytes of its checkpoints, 0 for a run that is kept as it is.
        kept: why it is kept; empty if its checkpoints are deleted.
    """

    run: Path
    freed: int
    kept: str = ""


def clean(runs: str | Path | Sequence[str | Path], *, dry_run: bool = False) -> list[Cleaned]:
    """Deletes the checkpoints of finished runs. Evaluation, export and prediction do not need them.

    A run without checkpoints cannot go on with more epochs, and the call that made it would train it again from its start.
    A run is finished if it has its trained model and its report; a trial of a search needs no report.

    Args:
        runs: folders of runs, or folders that hold runs at any depth.
        dry_run: whether to delete nothing.

    Returns:
        What was found, or would be freed, for every run.

    Raises:
        UsageError: a folder does not exist or holds no run, or a file cannot be deleted.

    Example:
        >>> sum(part.freed for part in zoo.clean("runs", dry_run=True))
        1363968
    """
    from zoo.training.run_directory import is_run

    found: dict[Path, None] = {}
    for given in [runs] if isinstance(runs, (str, Path)) else runs:
        folder = Path(given)
        inside = [folder] if is_run(folder) else sorted(file.parent for file in folder.rglob("config.yaml"))
        inside = [run for run in inside if is_run(run)]
        if not inside:
            what = "holds no run" if folder.exists() else "does not exist"
            raise UsageError(f"{folder} {what}. Pass a folder that `zoo train` made, or one with such folders.")
        found |= dict.fromkeys(inside)
    return [_cleaned(run, dry_run=dry_run) for run in found]


def _cleaned(run: Path, *, dry_run: bool) -> Cleaned:
    from zoo.training.run_directory import in_use

    checkpoints = run / "checkpoints"
    size = sum(file.stat().st_size for file in checkpoints.rglob("*") if file.is_file())
    if not size:
        return Cleaned(run, 0, "it has no checkpoints")
    if not (run / "model.keras").is_file():
        return Cleaned(run, 0, "its training is not finished")
    if not ((run / "evaluation.json").is_file() or (run.parent / "search.json").is_file()):
        return Cleaned(run, 0, "it has no report yet; `zoo evaluate` writes it")
    try:
        with in_use(run):
            if not dry_run:
                storage.remove_tree(checkpoints)
    except UsageError:
        return Cleaned(run, 0, "a process uses it")
    except OSError as error:
        raise UsageError(f"Cannot delete {checkpoints}: {one_line(error)}. Check its permissions.") from error
    return Cleaned(run, size)
