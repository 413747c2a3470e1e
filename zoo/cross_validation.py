"""Cross-validation: one run for every fold, or for every seed."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import datasets, run_display, storage
from zoo.config import TrainConfig, as_config
from zoo.errors import UsageError
from zoo.pipeline import run
from zoo.preparation import choose_model, default_directory
from zoo.run_arguments import DEVICES, check_model

FILE = "cross_validation.json"
"""The file with the metrics of all runs: `runs` by folder, `seeds` (None for folds), `summary` and `verified`."""


@dataclasses.dataclass(frozen=True, repr=False)
class CrossValidation:
    """The result of `cross_validate`.

    Attributes:
        directory: the folder with a run for each fold or seed, and cross_validation.json with the metrics.
        runs: the metrics of each run, including those of the baselines, by the run's folder, such as `fold-0` or `seed-0`.
        passed: whether every run's SavedModel was verified; True without export.
        seeds: the seed of each run; empty for folds.
    """

    directory: Path
    runs: Mapping[str, Mapping[str, float]]
    passed: bool
    seeds: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return run_display.runs_as_text(self)

    def _repr_html_(self) -> str:
        return run_display.runs_as_html(self)

    @property
    def title(self) -> str:
        """The number of folds or seeds in words, such as "5 folds"."""
        return f"{len(self.runs)} {'seeds' if self.seeds else 'folds'}"

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """Mean and standard deviation over the runs of every metric that all runs have."""
        metrics = list(self.runs.values())
        shared = [name for name in (metrics or [{}])[0] if all(name in run for run in metrics)]
        values = {name: [run[name] for run in metrics] for name in shared}
        return {k: {"mean": statistics.fmean(v), "deviation": statistics.pstdev(v)} for k, v in values.items()}

    def table(self) -> str:
        """Returns the summary as a table for a terminal."""
        width = max(map(len, self.summary))
        lines = [f"{k:<{width}}  {v['mean']:10.4f}  +- {v['deviation']:.4f}" for k, v in self.summary.items()]
        return "\n".join([f"{self.title}, mean and standard deviation", *lines])


def cross_validate(
    model: str | None, data: Any, *, folds: int | None = None, seeds: Sequence[int] | None = None, **arguments: Any
) -> CrossValidation:
    """Trains a model once for every fold, or once for every seed, and summarizes the metrics.

    With folds, each example is in the test split of one run. With seeds, all runs have the data's own splits, and differ in
    initial weights, shuffling, dropout and augmentation: use them for data with a test split, and for data split by time.

    Args:
        model: a registered model's name; None for the default model of the data's task.
        data: a data set's name, or data as `zoo.run` takes it.
        folds: number of folds, at least 2; 5 if there are no seeds.
        seeds: the seeds of `TrainConfig.seed`, at least 2, instead of folds.
        **arguments: as in `run`; every fold is a run in `RUN_DIRECTORY/fold-K`, every seed one in `RUN_DIRECTORY/seed-K`.

    Raises:
        UsageError: as in `run`; folds and seeds are both given or are invalid; and for folds of data that is split by time.

    Example:
        >>> zoo.cross_validate("lstm", "digit_rows", folds=5).summary["accuracy"]["mean"]
        >>> zoo.cross_validate("mlp", "adult", seeds=[0, 1, 2]).summary["accuracy"]["deviation"]
    """
    from zoo import evaluation

    check_model(model)
    folds, chosen = _checked(folds, seeds)
    given = arguments.pop("run_directory", None)
    storage.check_local(given or "", "run_directory")
    load = dict(arguments.pop("data_arguments", None) or {})
    configs = _with_seeds(arguments.pop("config", None), chosen)
    source = data  # whose name the folder has
    if not isinstance(data, str):  # once for all runs
        splits = {name: arguments.pop(name, None) for name in ("validation", "test")}
        data, load = datasets.load(data, model=model, **splits, **load), {}
    if model is None:
        devices = {name: value for name, value in arguments.items() if name in DEVICES}
        model, _ = choose_model(data, configs[0], load, devices, arguments.get("verbose", 1))
    first = Path(given) if given else default_directory(model, source)
    directory = first if given else first.with_name(f"{first.name}-{'seeds' if chosen else 'folds'}")
    differing: dict[str, dict[str, Any]] = {
        f"fold-{fold}": {"data_arguments": {**load, "folds": folds, "fold": fold}, "config": configs[0]}
        for fold in range(folds)
    }
    for seed, config in zip(chosen, configs, strict=False):
        differing[f"seed-{seed}"] = {"data_arguments": load, "config": config}
    figures, passed = {}, True
    for name, own in differing.items():
        result = run(model, data, run_directory=directory / name, **own, **arguments)
        if result.report:  # otherwise this is a worker, and the chief does the rest
            figures[name] = evaluation.figures(result.report)
            passed = passed and (result.verification is None or result.verification.passed)
        del result  # which holds a model and data
    if not figures:
        return CrossValidation(directory, {}, True, chosen)
    done = CrossValidation(directory, figures, passed, chosen)
    content = {"runs": done.runs, "seeds": list(chosen) or None, "summary": done.summary, "verified": passed}
    storage.write_json(directory / FILE, content)
    return done


def _with_seeds(config: Any, seeds: tuple[int, ...]) -> list[TrainConfig]:
    """Returns the training options of every seed; without seeds, the given ones alone.

    Raises:
        UsageError: an option is invalid, or the options have a seed of their own.
    """
    known = as_config(config)
    if not seeds:
        return [known]
    given = {name: getattr(known, name) for name in known.given}  # the model may recommend the others
    if "seed" in given:
        raise UsageError(f"seed={known.seed} has no effect with seeds. Leave it out.")
    return [type(known)(**given, seed=seed) for seed in seeds]


def _checked(folds: int | None, seeds: Sequence[int] | None) -> tuple[int, tuple[int, ...]]:
    """Returns the number of folds and the seeds; one of them is 0 or empty.

    Raises:
        UsageError: both are given, or one is invalid.
    """
    if seeds is None:
        folds = 5 if folds is None else folds
        if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
            raise UsageError(f"folds is {folds!r}; expected a whole number of at least 2. Pass folds=5, say.")
        return folds, ()
    if folds is not None:
        raise UsageError(
            f"folds is {folds!r} and seeds is {seeds!r}; expected one of them. Pass folds to split the data in several ways, "
            "or seeds to train several times on the same split."
        )
    chosen = tuple(seeds) if isinstance(seeds, (list, tuple, range)) else ()
    valid = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in chosen)
    if len(chosen) < 2 or not valid or len(set(chosen)) < len(chosen):
        raise UsageError(
            f"seeds is {seeds!r}; expected two or more different whole numbers. Pass seeds=[0, 1, 2, 3, 4], say."
        )
    return 0, chosen
