"""SavedModels as models of MLflow: the signatures as schema. `pip install ".[mlflow]"` adds MLflow."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, one_line
from zoo.export import artifact_paths, zoo_json
from zoo.export.loading import LoadedModel
from zoo.export.standalone import arrays, mlflow_model
from zoo.tasks import REQUEST_KINDS

try:
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema, TensorSpec
except ImportError as error:
    raise UsageError(
        f"MLflow cannot be imported: {one_line(error, 120)}. Install it: pip install 'savedmodel-zoo[mlflow]'."
    ) from error

_TYPES = {
    **{
        tf.string: DataType.string,
        tf.float32: DataType.double,
        tf.float64: DataType.double,
        tf.float16: DataType.double,
    },
    **{tf.int32: DataType.integer, tf.int64: DataType.long, tf.bool: DataType.boolean},
}
"""Of one value of an example. MLflow rejects the numbers of pandas, which are doubles, as floats."""
_EXAMPLES = 2


def model_signature(path: str | Path, signature_name: str = "serving_default") -> ModelSignature:
    """Returns the schema of a signature of a SavedModel for MLflow.

    An input of one value per example is a column: a text is a string, a file is binary, a number of 32 bits a double. If an
    input has several, such as a series, all inputs are tensors by name. Outputs are columns; those with several values are
    arrays. Inputs with a default are optional.

    Args:
        path: a version folder, its parent folder (the newest version), or a run.
        signature_name: the signature of the SavedModel.

    Raises:
        UsageError: there is no SavedModel or no such signature, or its outputs are not one per example.

    Example:
        >>> model_signature("runs/commands").inputs.to_dict()
        [{'type': 'string', 'name': 'text', 'required': True}]
    """
    return _signature(LoadedModel(artifact_paths.find(path)), signature_name)


def _signature(model: LoadedModel, name: str) -> ModelSignature:
    specs, outputs = model.specs(name)
    if not all(tensor.shape.rank and tensor.shape[0] is None for tensor in outputs.values()):
        raise UsageError(
            f"The outputs of {name} are not one per example. Choose another signature: {', '.join(model.signatures())}."
        )
    kinds, defaults = model.kinds(name), model.defaults(name)
    answers = Schema([ColSpec(_output_type(tensor), key) for key, tensor in sorted(outputs.items())])
    if not _are_columns(specs):
        inputs = [
            TensorSpec(_dtype(spec), [size or -1 for size in spec.shape], key) for key, spec in sorted(specs.items())
        ]
        return ModelSignature(Schema(inputs), answers)
    columns = [
        ColSpec(
            DataType.binary if REQUEST_KINDS.get(kinds[key]).is_bytes else _TYPES[spec.dtype],
            key,
            required=key not in defaults,
        )
        for key, spec in sorted(specs.items())
    ]
    return ModelSignature(Schema(columns), answers)


def _are_columns(specs: Mapping[str, tf.TensorSpec]) -> bool:
    return all(spec.shape.rank == 1 and spec.dtype in _TYPES for spec in specs.values())


def _dtype(spec: tf.TensorSpec) -> np.dtype[Any]:
    return np.dtype(object) if spec.dtype == tf.string else np.dtype(spec.dtype.as_numpy_dtype)


def _output_type(tensor: Any) -> Any:
    found: Any = _TYPES.get(tensor.dtype, DataType.double if tensor.dtype.is_floating else DataType.long)
    for _ in range(tensor.shape.rank - 1):
        found = Array(found)
    return found


def save_model(
    path: str | Path, output: str | Path, *, signature_name: str = "serving_default", **options: Any
) -> None:
    """Writes a SavedModel as an MLflow model, which `mlflow.pyfunc.load_model` loads and `mlflow models serve` serves.

    The model needs TensorFlow, NumPy and pandas, neither Keras nor this package.

    Args:
        path: a version folder, its parent folder (the newest version), or a run.
        output: the folder to write; it must not exist.
        signature_name: the signature of the SavedModel that the model calls.
        **options: further arguments of `mlflow.pyfunc.save_model`, such as `metadata`.

    Raises:
        UsageError: as in `model_signature`, or the folder exists.

    Example:
        >>> save_model("runs/commands", "mlflow/commands")
        >>> mlflow.pyfunc.load_model("mlflow/commands").predict(pandas.DataFrame({"text": ["radio off"]}))
    """
    if Path(output).exists():
        raise UsageError(f"{output} exists already. Remove it, or pass another folder.")
    with _prepared(path, signature_name) as arguments:
        mlflow.pyfunc.save_model(str(output), **{**arguments, **options})


def log_model(path: str | Path, name: str = "model", *, signature_name: str = "serving_default", **options: Any) -> Any:
    """Logs a SavedModel to the active run of MLflow, as `save_model` writes it.

    Args:
        path: a version folder, its parent folder (the newest version), or a run.
        name: the name of the model in the run.
        signature_name: the signature of the SavedModel that the model calls.
        **options: further arguments of `mlflow.pyfunc.log_model`, such as `registered_model_name`.

    Returns:
        MLflow's description of the model, with its `model_uri`.

    Raises:
        UsageError: as in `model_signature`.

    Example:
        >>> with mlflow.start_run():
        ...     log_model("runs/commands", registered_model_name="commands").model_uri
    """
    with _prepared(path, signature_name) as arguments:
        return mlflow.pyfunc.log_model(name=name, **{**arguments, **options})


@contextmanager
def _prepared(path: str | Path, signature_name: str) -> Iterator[dict[str, Any]]:
    """Yields the arguments of `mlflow.pyfunc.save_model`, with a folder that lasts as long as the block."""
    found = artifact_paths.find(path)
    if changed := artifact_paths.changes(found):
        raise UsageError(
            f"{found} has changed since its export: {'; '.join(changed[:3])}. Copy the folder again; `zoo verify {found}` "
            "checks it."
        )
    model = LoadedModel(found)
    signature = _signature(model, signature_name)
    with tempfile.TemporaryDirectory(prefix="zoo-mlflow-") as folder:
        data = Path(folder) / "saved_model"
        shutil.copytree(found, data / mlflow_model.MODEL, copy_function=_linked)
        facts = {"signature": signature_name, "defaults": model.defaults(signature_name)}
        (data / mlflow_model.SERVED).write_text(json.dumps(facts), encoding="utf-8")
        yield {
            "loader_module": mlflow_model.__name__.rpartition(".")[2],
            "data_path": str(data),
            "code_paths": [mlflow_model.__file__],
            "signature": signature,
            "input_example": _example(model, found, signature_name),
            "pip_requirements": [f"tensorflow=={tf.__version__}", f"numpy=={np.__version__}", "pandas"],
            "metadata": {"saved_model": "/".join(found.absolute().parts[-3:]), "signature_name": signature_name},
        }


def _linked(source: str, target: str) -> None:
    """Links a file, which costs no space; copies it to another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _example(model: LoadedModel, path: Path, signature_name: str) -> Any:
    """Returns golden inputs as MLflow takes them; None for a SavedModel without any."""
    import pandas as pd

    file = path / artifact_paths.EXTRA / "golden.npz"
    facts = zoo_json.signatures(zoo_json.read(path))
    golden = arrays.examples(arrays.load(file), facts, signature_name)[0] if file.is_file() else {}
    if not golden:
        return None
    specs, kinds = model.specs(signature_name)[0], model.kinds(signature_name)
    few = {name: value[:_EXAMPLES] for name, value in sorted(golden.items())}
    if not _are_columns(specs):
        return few
    return pd.DataFrame({name: _column(value, REQUEST_KINDS.get(kinds[name]).is_bytes) for name, value in few.items()})


def _column(values: np.ndarray, is_bytes: bool) -> list[Any]:
    found = [value.decode() if isinstance(value, bytes) and not is_bytes else value for value in values.tolist()]
    return found
