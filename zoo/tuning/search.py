"""The search: trains trial after trial, then trains the best settings with other seeds and scores these on the test split."""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import datasets, registry, storage
from zoo.checkpoints import word_vectors
from zoo.config import TrainConfig, as_config
from zoo.config_checks import duration
from zoo.cross_validation import cross_validate
from zoo.errors import UsageError, one_line
from zoo.pipeline import begin
from zoo.preparation import choose_model, default_directory
from zoo.run_arguments import DEVICES
from zoo.tuning import sampling
from zoo.tuning.records import COMPLETE, FAILED, PRUNED, RUNNING, Clock, Records, Trial
from zoo.tuning.space import Dimension, search_space
from zoo.tuning.tuned import Tuned, line

_OF_TRIALS = ("model_arguments", "start_from")
_OF_FINAL = ("export", "golden", "licence", "baselines", "callbacks")


@dataclasses.dataclass(frozen=True)
class _Search:
    """What all trials of a search share."""

    model: str
    data: Any
    config: TrainConfig
    space: tuple[Dimension, ...]
    arguments: Mapping[str, Any]
    devices: Mapping[str, Any]
    verbose: int

    @property
    def seed(self) -> int:
        return self.config.seed

    def settings(self, trial: Trial) -> dict[str, dict[str, Any]]:
        """Returns the options and the builder's arguments that a trial varies."""
        found: dict[str, dict[str, Any]] = {"config": {}, "model": {}}
        for part in self.space:
            if part.key in trial.drawn:
                found[part.section][part.name] = part.value(trial.drawn[part.key])
        return found

    def configured(self, trial: Trial, **more: Any) -> tuple[TrainConfig, dict[str, Any]]:
        """Returns the options and the builder's arguments of a trial; `more` are further options."""
        known = {name: getattr(self.config, name) for name in self.config.given}
        settings = self.settings(trial)
        options = {**known, **settings["config"], **more}
        return type(self.config)(**options), {**self.arguments["model_arguments"], **settings["model"]}


def tune(
    model: str | None,
    data: Any,
    *,
    trials: int = 20,
    space: Iterable[str] | Mapping[str, str] | None = None,
    timeout: str | float | None = None,
    seeds: Sequence[int] | None = None,
    **arguments: Any,
) -> Tuned:
    """Searches for settings of a model with the best metric on the validation split. The same call resumes a killed search.

    Every trial is an ordinary run in `RUN_DIRECTORY/trial-NUMBER`. The first one has the settings that were given. Later ones
    are drawn by Optuna's TPE sampler, and end early if they are worse than the median of the earlier ones. The metric is
    `config.monitor`, by default that of the task, of the best epoch. No trial is scored on the test split: the best
    settings are trained again with other seeds, in `RUN_DIRECTORY/best`, and only these runs are.

    A search that was killed at any point trains the same trials and ends in the same best, on the same devices.

    Args:
        model: a registered model's name; None for the default model of the data's task.
        data: a data set's name, or data as `zoo.run` takes it.
        trials: number of trials in all, at least 1. A larger number than before goes on with a finished search.
        space: what is varied: texts such as "learning_rate=1e-4:1e-2:log", "dropout=0:0.5" or "hidden_units=[64],[64, 64]",
            or a dict of them; None for the `search_space` that the model declares.
        timeout: time such as "30m", or seconds, after which no new trial begins in this call. None sets no limit.
        seeds: seeds of the final runs, two or more; None for the two that follow the seed of the search; () for no final run.
        **arguments: as in `run`. `seed` of the config is that of all trials.

    Raises:
        UsageError: Optuna is not installed, the space is invalid, the data has no validation split, every trial failed, the
            folder holds another search, or as in `run`.

    Example:
        >>> found = zoo.tune("mlp", "digits", trials=20, space=["learning_rate=1e-4:1e-2:log", "dropout=0:0.5"])
        >>> found.best.value, found.settings["config"]
        (0.97..., {'learning_rate': 0.0031...})
        >>> found.final.summary["accuracy"]["mean"]
        0.96...
    """
    begun, limit = time.monotonic(), math.inf if timeout is None else duration("timeout", timeout)
    sampling.check_installed()
    _check_count(trials)
    search, directory, final = _prepared(model, data, space, arguments)
    chosen = (search.seed + 1, search.seed + 2) if seeds is None else tuple(seeds)
    if chosen and (len(chosen) < 2 or search.seed in chosen):
        raise UsageError(
            f"seeds is {list(chosen)}; expected two or more, other than the search's own {search.seed}, or none. Pass "
            f"seeds=[{search.seed + 1}, {search.seed + 2}], say."
        )
    records = Records(directory, _described(search))
    while len(records.finished) < trials:
        if time.monotonic() - begun > limit and records.best() is not None:
            _say(f"The timeout is over after {len(records.finished)} of {trials} trials.", search.verbose)
            break
        _say(line(_next_trial(search, records), records.metric[0] if records.metric else "value"), search.verbose)
        gc.collect()
    best = records.best()
    if best is None or records.metric is None:
        reasons = "; ".join(dict.fromkeys(trial.reason for trial in records.trials))
        raise UsageError(f"No trial of the search in {directory} was completed: {reasons:.300} Correct the settings.")
    _draw(records, search.space, best)
    done = None
    if chosen:
        _say(f"The best settings, of trial {best.number}, are trained with the seeds {list(chosen)}.", search.verbose)
        done = _final(search, best, directory / "best" / f"trial-{best.number:03}", chosen, final)
    return Tuned(directory, records.metric, records.trials, best, search.settings(best), done)


def _check_count(trials: Any) -> None:
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise UsageError(f"trials is {trials!r}; expected a whole number of at least 1. Pass trials=20, say.")


def _say(text: str, verbose: int) -> None:
    if verbose:
        print(text, flush=True)


def _prepared(
    model: str | None, data: Any, space: Any, arguments: dict[str, Any]
) -> tuple[_Search, Path, dict[str, Any]]:
    """Returns the search, its folder, and the arguments of the final runs."""
    final = {name: arguments.pop(name) for name in _OF_FINAL if name in arguments}
    devices = {name: arguments.pop(name) for name in DEVICES if name in arguments}
    verbose, given = arguments.pop("verbose", 1), arguments.pop("run_directory", None)
    storage.check_local(given or "", "run_directory")
    config, load = as_config(arguments.pop("config", None)), dict(arguments.pop("data_arguments", None) or {})
    splits = {name: arguments.pop(name, None) for name in ("validation", "test")}
    load |= {name: part for name, part in splits.items() if part is not None}
    shared = {
        "model_arguments": dict(arguments.pop("model_arguments", None) or {}),
        "start_from": arguments.pop("start_from", None),
    }
    if arguments.pop("overwrite", False):
        raise UsageError("overwrite has no effect on a search. Leave it out, and pass another run_directory.")
    if arguments:
        raise UsageError(f"zoo.tune takes no argument {next(iter(arguments))!r}. Leave it out.")
    if devices.get("cluster") is not None:
        raise UsageError(
            "A search runs on one machine. Leave cluster out; zoo.run trains the best settings on several."
        )
    source = data
    if model is None:
        model, data = choose_model(data, config, load, devices, verbose)
        load = {}
    else:
        registry.get_spec(model)
        data, load = datasets.load(data, model=model, **load), {}  # once for all trials
    spec = registry.get_spec(model)
    parts = _open_parts(space, spec, config, shared["model_arguments"])
    first = Path(given) if given else default_directory(model, source)
    directory = first if given else first.with_name(f"{first.name}-tune")
    return _Search(model, data, config, parts, shared, devices, verbose), directory, final


def _open_parts(
    space: Iterable[str] | Mapping[str, str] | None,
    spec: registry.ModelSpec,
    config: TrainConfig,
    arguments: Mapping[str, Any],
) -> tuple[Dimension, ...]:
    """Returns what a search varies: of what the model declares, the parts that are not set, also by word vectors.

    Raises:
        UsageError: a part that the user chose is set, or all are.
    """
    parts = search_space(space, spec)
    model = {*arguments, *word_vectors.chosen(spec, arguments, arguments)}
    set_already = {f"config.{name}" for name in config.given} | {f"model.{name}" for name in model}
    twice = [part.key for part in parts if part.key in set_already]
    if twice and (space is not None or len(twice) == len(parts)):
        raise UsageError(f"{twice[0]} is set and is in the search space. Leave one of them out.")
    return tuple(part for part in parts if part.key not in twice)


def _draw(records: Records, space: Sequence[Dimension], best: Trial) -> None:
    """Draws the search. One that cannot be drawn is named, and nothing else is lost."""
    from zoo.tuning.plots import draw_search

    file = records.directory / "search.png"
    try:
        draw_search(records.trials, space, records.metric[0] if records.metric else "", best, file)
    except Exception as error:  # noqa: BLE001, such as a font that is missing
        _say(f"The picture {file} could not be drawn: {type(error).__name__}: {one_line(error)}", 1)


def _described(search: _Search) -> dict[str, Any]:
    """Returns what decides a search."""
    splits = {name: search.data.splits[name].sha256 for name in ("train", "validation") if name in search.data.splits}
    return {
        "model": search.model,
        "data": {"name": search.data.name, **registry.plain(dict(search.data.arguments)), **splits},
        "config": {name: registry.plain(getattr(search.config, name)) for name in sorted(search.config.given)},
        "model_arguments": registry.plain(search.arguments["model_arguments"]),
        "start_from": registry.plain(search.arguments["start_from"]),
        "space": {part.key: str(part) for part in search.space},
        "seed": search.seed,
    }


def _next_trial(search: _Search, records: Records) -> Trial:
    """Goes on with the trial that was interrupted, or draws the next one; returns it finished."""
    earlier = records.finished
    trial = next((trial for trial in records.trials if trial.state == RUNNING), None)
    if trial is None:
        direction = records.metric[1] if records.metric else "min"
        drawn = sampling.draw(earlier, search.space, direction, search.seed) if earlier else {}
        trial = Trial(len(earlier), drawn)
        records.trials.append(trial)
        records.write()
    try:
        _train(search, records, trial)
    except UsageError as error:
        if not trial.drawn:  # the settings that were given
            records.trials.remove(trial)
            records.write()
            raise
        trial.state, trial.reason = FAILED, str(error)
    records.write()
    return trial


def _train(search: _Search, records: Records, trial: Trial) -> None:
    """Trains a trial to its end, or until it is pruned. It has no report: nothing is scored on the test split."""
    from zoo import training
    from zoo.tuning.pruning import Pruned, Pruning

    if trial.state == PRUNED:
        return
    config, model_arguments = search.configured(trial)
    ready, directory = begin(
        search.model,
        search.data,
        config,
        given={},
        model_arguments=model_arguments,
        data_arguments={},
        run_directory=records.directory / trial.name,
        start_from=search.arguments["start_from"],
        golden=None,
        export=False,
        overwrite=False,
        baselines="none",
        devices=search.devices,
        verbose=0,
    )
    options = _selecting(ready.config, search.config)
    _check_metric(options, ready.prepared)
    clock = Clock(trial)
    judge = None
    if records.metric is not None and trial.drawn:
        earlier = [other for other in records.finished if other.number < trial.number]
        judge = sampling.Judge(earlier, trial, search.space, records.metric[1], search.seed)
    monitor = options.monitor or ready.prepared.objective.monitor[0]
    watch = Pruning(trial, monitor, judge, clock, records.write)
    try:
        trained = training.train(
            ready.network, ready.prepared, options, run_directory=directory, verbose=0, callbacks=[watch]
        )
    except Pruned:
        return
    clock.stop()
    if records.metric is None:
        records.metric = trained.monitor
    trial.epoch = trained.epoch or len(trained.history)
    trial.values = [float(row[monitor]) for row in trained.history]
    trial.value, trial.state = trial.values[trial.epoch - 1], COMPLETE


def _selecting(complete: TrainConfig, given: TrainConfig) -> TrainConfig:
    """Returns complete options with which a run ends in its best epoch, by which a trial is compared."""
    if complete.closed_form or "keep_best" in given.given or complete.keep_best:
        return complete
    return dataclasses.replace(complete, keep_best=1)


def _check_metric(config: TrainConfig, prepared: Any) -> None:
    """Raises UsageError if there is nothing to compare trials by."""
    if not prepared.num_examples("validation"):
        raise UsageError(
            f"{prepared.data.name} has no validation split, by which trials are compared. Pass validation data, or data that "
            "can be split."
        )
    if config.keep_best < 1 and (not config.closed_form or config.monitor is not None):
        raise UsageError(
            f"keep_best is {config.keep_best} and monitor is {config.monitor!r}; trials are compared by the best epoch. "
            "Leave keep_best out, and with closed_form monitor too."
        )


def _final(search: _Search, best: Trial, directory: Path, seeds: tuple[int, ...], arguments: dict[str, Any]) -> Any:
    """Trains the best settings with other seeds, with reports on the test split."""
    from zoo.training.run_directory import read_settings

    settings = read_settings(directory.parent / best.name)["config"]
    solved = settings.get("closed_form") or "keep_best" in search.config.given
    config, model_arguments = search.configured(best, **({} if solved else {"keep_best": settings["keep_best"]}))
    options = {name: getattr(config, name) for name in config.given if name != "seed"}
    return cross_validate(
        search.model,
        search.data,
        seeds=seeds,
        run_directory=directory,
        config=type(config)(**options),
        model_arguments=model_arguments,
        start_from=search.arguments["start_from"],
        verbose=search.verbose and 2,
        **search.devices,
        **arguments,
    )
