"""Logs runs to MLflow: settings, the figures of every epoch, the report and the SavedModel."""

from __future__ import annotations

import json
import math
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from zoo import lineage, storage
from zoo.errors import UsageError, one_line
from zoo.export import artifact_paths
from zoo.training.cluster import Workers

if TYPE_CHECKING:
    from zoo.pipeline import RunResult

_MOST_PARAM = 500
"""Characters of a setting; older servers of MLflow take no more."""
_SUMS = "zoo.saved_model_sha256"
_ID = "zoo.run_id"


class MlflowCallback(keras.callbacks.Callback):
    """Logs a run to MLflow. `pip install "savedmodel-zoo[mlflow]"` adds MLflow.

    The settings become parameters (`model.name`, `data.name`, `config.epochs`), and the figures of every epoch metrics by the
    number of the epoch. After the export, the numbers of the report become metrics (`test/accuracy`), and the SavedModel a
    model of MLflow with the schema of its signature, see `zoo.export.serving.mlflow`. Where the runs go is decided by MLflow:
    `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`, or an active run. A resumed run continues its run in MLflow. Of several
    workers, only the chief logs. If MLflow cannot be reached later than at the start, a warning says so, and the training
    goes on.

    Args:
        model_name: the name of the model in the run; None to log no model.
        **options: further arguments of `zoo.export.serving.mlflow.log_model`, such as `registered_model_name` or
            `signature_name`.

    Raises:
        UsageError: MLflow is not installed; or, when the training starts, it cannot be reached.

    Example:
        >>> zoo.run("cnn", "digits", callbacks=[zoo.MlflowCallback()])
    """

    def __init__(self, model_name: str | None = "model", **options: Any) -> None:
        super().__init__()
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise UsageError(
                f"MLflow cannot be imported: {one_line(error, 120)}. Install it: pip install 'savedmodel-zoo[mlflow]'."
            ) from error
        self._model_name, self._options = model_name, options
        self._client = MlflowClient()
        self._run_id: str | None = None
        self._is_open = False  # the run of MLflow was found or made by this process
        self._is_own = True

    def get_state(self) -> dict[str, Any]:
        """Returns what a resumed run needs: the id of its run in MLflow."""
        return {"run_id": self._run_id}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues the run in MLflow of an interrupted run."""
        if not self._is_open:
            self._run_id = state["run_id"]

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts or continues the run in MLflow, before the first epoch of this process."""
        if not self._is_open and Workers(self.model.distribute_strategy).chief:
            self._begin(self.model)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Logs the figures of an epoch, counted from 1."""
        if self._is_open:
            with _or_warning():
                self._log_metrics(logs or {}, epoch + 1)

    def on_run_end(self, result: RunResult) -> None:
        """Logs the report and the SavedModel of a finished run, and ends the run in MLflow. `zoo.run` calls it.

        Args:
            result: the result of the run.
        """
        if not self._is_open:
            logged = self._run_id is not None
            self._begin(result.model)
            for number, row in enumerate([] if logged else result.history, start=1):
                self._log_metrics(row, number)
        with _or_warning():
            self._log_metrics({f"test/{name}": value for name, value in result.report.items()}, 0)
            for name in ("config.yaml", "history.csv", "evaluation.json", "README.md"):
                if (file := result.run_directory / name).is_file():
                    self._client.log_artifact(self._run_id, str(file), "run")
            for file in result.plots.values():
                self._client.log_artifact(self._run_id, str(file), "run/plots")
            if result.saved_model is not None and self._model_name is not None:
                self._log_model(result.saved_model, self._model_name)
            if self._is_own:
                self._client.set_terminated(self._run_id)

    def _begin(self, model: keras.Model) -> None:
        """Finds the run in MLflow that this run belongs to, or makes one and logs the settings."""
        import mlflow

        recorded = lineage.of(model)
        try:
            known = self._known()
            if known is None:
                active = mlflow.active_run()
                self._is_own = active is None
                self._run_id = active.info.run_id if active else self._created(recorded)
                self._log_params(recorded.get("settings", {}))
            self._is_open = True
        except Exception as error:  # MLflow and its stores raise many kinds
            raise UsageError(
                f"The run cannot be logged to MLflow at {mlflow.get_tracking_uri()}: {one_line(error, 200)} Correct "
                "MLFLOW_TRACKING_URI, or train without the callback."
            ) from error

    def _known(self) -> Any:
        """Returns the run in MLflow of the state that was restored; None if MLflow does not have it."""
        from mlflow.exceptions import MlflowException

        if self._run_id is None:
            return None
        try:
            found = self._client.get_run(self._run_id)
        except MlflowException:  # another server
            return None
        self._client.set_terminated(self._run_id, "RUNNING")
        return found

    def _created(self, recorded: Mapping[str, Any]) -> str:
        from mlflow.tracking.fluent import _get_experiment_id

        tags = {_ID: str(recorded.get("run_id", ""))}
        code = recorded.get("code") or {}
        if code.get("commit"):
            tags["mlflow.source.git.commit"] = code["commit"]
        created = self._client.create_run(_get_experiment_id(), tags=tags)
        return str(created.info.run_id)

    def _log_params(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = [
            Param(_name(f"{section}.{name}"), _text(value))
            for section, values in settings.items()
            for name, value in (values.items() if isinstance(values, Mapping) else ())
        ]
        for start in range(0, len(flat), _MOST_AT_ONCE):
            self._client.log_batch(self._run_id, params=flat[start : start + _MOST_AT_ONCE])

    def _log_metrics(self, figures: Mapping[str, Any], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        known = {
            name: float(value)
            for name, value in figures.items()
            if name != "epoch" and isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        metrics = [Metric(_name(name), value, now, step) for name, value in known.items() if math.isfinite(value)]
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)

    def _log_model(self, saved_model: Path, name: str) -> None:
        """Logs the SavedModel, unless this run in MLflow has it."""
        import mlflow

        from zoo.export.serving.mlflow import log_model

        sums = storage.sha256(saved_model / artifact_paths.EXTRA / artifact_paths.SUMS)
        if self._client.get_run(self._run_id).data.tags.get(_SUMS) == sums:
            return
        active = mlflow.active_run()
        if active is not None and active.info.run_id == self._run_id:
            log_model(saved_model, name, **self._options)
        else:
            with mlflow.start_run(run_id=self._run_id, nested=active is not None):
                log_model(saved_model, name, **self._options)
        self._client.set_tag(self._run_id, _SUMS, sums)


_MOST_AT_ONCE = 100
"""Parameters in a request; MLflow takes no more."""


@contextmanager
def _or_warning() -> Iterator[None]:
    """Turns an error of MLflow into a warning: a training must not end because of it."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001, MLflow and its stores raise many kinds
        warnings.warn(f"MLflow has not logged all of the run: {one_line(error, 200)}", stacklevel=3)


def _name(text: str) -> str:
    """Returns a name that MLflow accepts.

    Example:
        >>> _name("recall@10")
        'recall_10'
    """
    return re.sub(r"[^\w\-. /]", "_", text)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _MOST_PARAM else f"{text[: _MOST_PARAM - 3]}..."
