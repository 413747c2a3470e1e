"""Draws the settings of the next trial, and says which trials are hopeless, with Optuna.

Optuna's study is made again from the records for every trial, and its random numbers depend on the seed and the number of the
trial alone. A search that was killed therefore goes on as if it had not been.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.tuning.records import COMPLETE, PRUNED, Trial
from zoo.tuning.space import Dimension

if TYPE_CHECKING:
    import optuna

_RANDOM = 6
"""Trials that are drawn at random, before the sampler learns from earlier ones."""
_UNPRUNED = 3
"""Complete trials before one can be pruned."""
_WARMUP = 2
"""The first epoch at whose end a trial can be pruned."""


def check_installed() -> None:
    """Raises UsageError if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "A search needs Optuna, which is not installed. Install the extra `tune`: pip install '.[tune]' in a checkout."
        ) from error


def study_of(trials: Sequence[Trial], space: Sequence[Dimension], direction: str, seed: int) -> optuna.Study:
    """Returns a study with the finished trials, whose next trial has the number of the next one.

    Args:
        trials: the trials before the next one.
        space: what is searched.
        direction: max or min.
        seed: of the search.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    number = len(trials)
    numbers = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(n_startup_trials=_RANDOM, multivariate=True, seed=numbers)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED, n_warmup_steps=_WARMUP)
    directions = optuna.study.StudyDirection
    way = directions.MAXIMIZE if direction == "max" else directions.MINIMIZE
    study = optuna.create_study(sampler=sampler, pruner=pruner, direction=way)
    states = {COMPLETE: optuna.trial.TrialState.COMPLETE, PRUNED: optuna.trial.TrialState.PRUNED}
    distributions = {part.key: part.distribution for part in space}
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                state=states.get(trial.state, optuna.trial.TrialState.FAIL),
                value=trial.value if trial.state == COMPLETE else None,
                params=trial.drawn,
                distributions={name: distributions[name] for name in trial.drawn},
                intermediate_values=dict(enumerate(trial.values, start=1)),
            )
        )
    return study


def draw(trials: Sequence[Trial], space: Sequence[Dimension], direction: str, seed: int) -> dict[str, Any]:
    """Returns the settings of the next trial by full name; the arguments are as in `study_of`."""
    found = study_of(trials, space, direction, seed).ask({part.key: part.distribution for part in space})
    return {part.key: found.params[part.key] for part in space}


class Judge:
    """Says after every epoch whether a trial is worse than the median of the earlier ones at the same epoch.

    Args:
        earlier: the trials before it.
        trial: the trial.
        space: what is searched.
        direction: max or min.
        seed: of the search.
    """

    def __init__(
        self, earlier: Sequence[Trial], trial: Trial, space: Sequence[Dimension], direction: str, seed: int
    ) -> None:
        study = study_of(earlier, space, direction, seed)
        study.enqueue_trial(trial.drawn)
        self._trial = study.ask({part.key: part.distribution for part in space})
        for epoch, value in enumerate(trial.values, start=1):
            self._trial.report(value, epoch)

    def is_hopeless(self, epoch: int, value: float) -> bool:
        """Takes the metric after an epoch, counted from 1; returns whether the trial should end."""
        self._trial.report(value, epoch)
        return bool(self._trial.should_prune())
