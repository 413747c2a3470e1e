"""SavedModels in Apache Beam pipelines: a model handler for `RunInference`. `pip install ".[beam]"` adds Beam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, one_line

try:
    from apache_beam.ml.inference.base import ModelHandler, PredictionResult
except ImportError as error:
    raise UsageError(
        f"Apache Beam cannot be imported: {one_line(error, 120)}. Install it: pip install 'savedmodel-zoo[beam]'."
    ) from error


class SavedModelHandler(ModelHandler):
    """Runs a SavedModel in a Beam pipeline, on raw requests.

    An element is what an item of `zoo.load(path).predict` is: a text, an id, the path or the bytes of a file, an array, or a
    dict by input or column. Every worker process loads the model once. The result is a `PredictionResult` with the element,
    the named outputs, and the model's name and version as `model_id`. Outputs of an element do not depend on the batch that
    Beam puts it in, within float32 rounding.

    Args:
        path: a version folder, its parent folder (the newest version is loaded) or a run, on every worker's file system.
        signature: the signature to call.
        errors: `raise` for an invalid element to fail its batch, which `RunInference.with_exception_handling` catches; or
            `return` for a result `{"error": MESSAGE}` for this element alone.
        min_batch_size: the smallest batch that Beam makes, if there are enough elements.
        max_batch_size: the largest one.

    Raises:
        UsageError: `errors` is something else. The worker raises it if the model cannot be loaded.

    Example:
        >>> with beam.Pipeline() as pipeline:
        ...     texts = pipeline | beam.Create(["turn the light on", "radio off"])
        ...     answers = texts | RunInference(SavedModelHandler("/models/commands"))
        ...     answers | beam.Map(lambda found: print(found.example, found.inference["class_name"]))
    """

    def __init__(
        self,
        path: str | Path,
        signature: str = "serving_default",
        *,
        errors: str = "raise",
        min_batch_size: int | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        if errors not in ("raise", "return"):
            raise UsageError(f"errors is {errors!r}; expected 'raise' or 'return'. Choose one of them.")
        super().__init__(min_batch_size=min_batch_size, max_batch_size=max_batch_size)
        self._path, self._signature, self._errors = str(path), signature, errors

    def load_model(self) -> Any:
        """Loads the SavedModel."""
        from zoo.export.loading import load

        return load(self._path)

    def run_inference(
        self, batch: Sequence[Any], model: Any, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        """Yields a result for each element of a batch, in their order.

        Args:
            batch: the elements.
            model: the result of `load_model`.
            inference_args: options of `predict`, such as `batch_size`.
        """
        options = dict(inference_args or {})
        name = "/".join(model.path.absolute().parts[-2:])
        try:
            found = model.predict(list(batch), self._signature, **options)
        except UsageError:
            if self._errors == "raise":
                raise
            found = [self._one(model, element, options) for element in batch]
        return [PredictionResult(element, outputs, name) for element, outputs in zip(batch, found, strict=True)]

    def _one(self, model: Any, element: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answered: dict[str, Any] = model.predict([element], self._signature, **options)[0]
            return answered
        except UsageError as error:
            return {"error": str(error)}

    def get_metrics_namespace(self) -> str:
        """Returns the namespace of Beam's counters for this handler."""
        return "savedmodel_zoo"

    def update_model_path(self, model_path: str | None = None) -> None:
        """Sets another path, which Beam's automatic model refresh calls."""
        self._path = model_path or self._path
