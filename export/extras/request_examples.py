"""Example requests to an artifact: in Python, as JSON for TensorFlow Serving, and as a C program.

Short values come from the first golden example, so that the examples are valid requests.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo import storage
from zoo.errors import UsageError
from zoo.export import artifact_paths
from zoo.tasks import REQUEST_KINDS

_MOST_NUMBERS = 32
_LONGEST_TEXT = 120
_LONGEST_RECORD = 1_000
_C_TYPES = {
    "float32": "TF_FLOAT",
    "float64": "TF_DOUBLE",
    "int8": "TF_INT8",
    "int16": "TF_INT16",
    "int32": "TF_INT32",
    "int64": "TF_INT64",
    "uint8": "TF_UINT8",
    "uint16": "TF_UINT16",
    "bool": "TF_BOOL",
}
_TEMPLATE = Path(__file__).parent / "request.c"

Specs = Mapping[str, Mapping[str, Any]]
"""The inputs of a signature by name, as zoo.json describes them: dtype, shape, and kind, one of `zoo.tasks.REQUEST_KINDS`."""


def _is_bytes(spec: Mapping[str, Any]) -> bool:
    """Whether an input takes the bytes of a whole file."""
    return REQUEST_KINDS.get(spec["kind"]).is_bytes


def tensor_names(directory: Path, signature: str = "serving_default") -> dict[str, dict[str, tuple[str, int]]]:
    """Returns the graph operation and output number of each input and output, which the C API needs.

    Returns:
        Under `inputs` and `outputs`, (operation, number) by name.

    Example:
        >>> tensor_names(Path("exports/digits/1"))["inputs"]
        {'image_bytes': ('serving_default_image_bytes', 0)}
    """
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((directory / "saved_model.pb").read_bytes())
    found = proto.meta_graphs[0].signature_def[signature]
    names = {}
    for side, tensors in (("inputs", found.inputs), ("outputs", found.outputs)):
        parts = {key: tensors[key].name.rpartition(":") for key in sorted(tensors)}
        names[side] = {key: (operation, int(number)) for key, (operation, _, number) in parts.items()}
    return names


def column_of(key: str, spec: Mapping[str, Any]) -> str:
    """Returns the column of the data that an input takes, if its name is another one; else "".

    Example:
        >>> column_of("column_1", {"dtype": "float32", "columns": {"column": "年龄"}})
        '年龄'
    """
    column = spec.get("columns", {}).get("column", key)
    return "" if column == key else " ".join(str(column).split())


def columns_comment(specs: Specs) -> list[str]:
    """Returns a comment of a shell or of Python that names the columns of inputs with other names; empty without such."""
    named = [f"{key} is {column}" for key, spec in specs.items() if (column := column_of(key, spec))]
    return [f"# Columns of the data: {', '.join(named)}"] if named else []


def _path(spec: Mapping[str, Any]) -> str:
    """The path that stands for a file of the user."""
    return REQUEST_KINDS.get(spec["kind"]).path


def _record(golden: np.ndarray | None, spec: Mapping[str, Any]) -> bytes | None:
    """Returns the bytes of a golden example that no file of the user holds, such as a short record; None for others."""
    kind = REQUEST_KINDS.get(spec["kind"])
    if golden is None or not len(golden) or not kind.is_bytes or kind.is_path or len(golden[0]) > _LONGEST_RECORD:
        return None
    return bytes(golden[0])


def complete(golden: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns golden examples from the first on that has no missing number; all of them where each has one.

    A missing number, NaN, is written differently in Python, in JSON and for C, so examples without one are easier to read.

    Args:
        golden: golden examples of a signature by input name, with one size of the batch.

    Example:
        >>> complete({"age": np.array([np.nan, 39.0]), "name": np.array([b"Ida", b"Bo"], object)})["name"].tolist()
        [b'Bo']
    """
    numbers = [value for value in golden.values() if value.dtype.kind == "f" and value.ndim]
    lacking = [np.isnan(value).reshape(len(value), -1).any(axis=1) for value in numbers if len(value)]
    first = int(np.argmin(np.any(lacking, axis=0))) if lacking else 0
    return {key: value[first:] if value.ndim else value for key, value in golden.items()}


def python_request(specs: Specs, golden: Mapping[str, np.ndarray]) -> list[str]:
    """Returns a request for one example as Python keyword arguments, one for each input.

    Args:
        specs: the inputs by name, as zoo.json describes them.
        golden: golden examples by input name.
    """
    golden = complete({key: golden[key] for key in specs if key in golden})
    arguments = []
    for key, spec in specs.items():
        value = _example(golden.get(key), spec)
        if _is_bytes(spec):
            whole = _record(golden.get(key), spec)
            content = f'open("{_path(spec)}", "rb").read()' if whole is None else repr(whole)
            arguments.append(f"{key}=tf.constant([{content}])")
        elif spec["dtype"] == "string":
            shown = json.dumps(value or [""], ensure_ascii=False)
            arguments.append(f"{key}=tf.constant({shown})")
        elif value is None:
            shape = [1, *(size or 2 for size in spec["shape"][1:])]
            arguments.append(f"{key}=tf.zeros({shape}, tf.{spec['dtype']})")
        else:
            shown = re.sub(r"\bnan\b", 'float("nan")', str(value))
            arguments.append(f"{key}=tf.constant({shown}, tf.{spec['dtype']})")
    return arguments


def rest_request(signature: str, specs: Specs, golden: Mapping[str, np.ndarray], url: str) -> str | None:
    """Returns a shell command that sends one example to TensorFlow Serving's REST API; None if it would be too long.

    In this API, bytes are {"b64": ...}. Several inputs are an object by name; a single input is the value itself.
    """
    golden = complete({key: golden[key] for key in specs if key in golden})
    row: dict[str, Any] = {}
    for key, spec in specs.items():
        value = _example(golden.get(key), spec)
        if value is None or not spec["shape"]:
            return None
        whole = _record(golden.get(key), spec)
        row[key] = {"b64": "%s" if whole is None else base64.b64encode(whole).decode()} if _is_bytes(spec) else value[0]
    instance = row if len(row) > 1 else next(iter(row.values()))
    body = json.dumps({"signature_name": signature, "instances": [instance]}, ensure_ascii=False)
    files = [_path(spec) for key, spec in specs.items() if _is_bytes(spec) and _record(golden.get(key), spec) is None]
    if not files:
        return f"curl -d {shlex.quote(body)} {url}"
    # Through a pipe, because a command line is too short for an image file.
    contents = " ".join(f'"$(base64 -w0 {file})"' for file in files)
    return f"printf {shlex.quote(body)} {contents} | curl -d @- {url}"


def c_program(directory: Path) -> str:
    """Returns a C program that calls `serving_default` of the SavedModel in a version folder.

    It compiles against the headers and libraries of TensorFlow's Python package and contains the names of the graph's
    operations.

    Raises:
        UsageError: an input has another type than float32, int32, int64 and string.
    """
    specs = storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")["signatures"]["serving_default"]
    names, made = tensor_names(directory), []
    for i, (key, spec) in enumerate(specs["inputs"].items()):
        if _is_bytes(spec):
            made.append(f"values[{i}] = file_tensor(next(argc, argv, &at));")
        elif spec["dtype"] == "string":
            made.append(f"values[{i}] = text_tensor(next(argc, argv, &at));")
        elif spec["dtype"] in _C_TYPES:
            sizes = [1, *(size or -1 for size in spec["shape"][1:])]
            shape = f"(int64_t[]){{{', '.join(map(str, sizes))}}}, {len(sizes)}"
            made.append(f"values[{i}] = number_tensor(argc, argv, &at, {_C_TYPES[spec['dtype']]}, {shape});")
        else:
            raise UsageError(
                f"Input {key} of serving_default is {spec['dtype']}; expected one of {', '.join(_C_TYPES)}, string. "
                "Use one of these types in the preprocessor's requests, and cast it inside the graph."
            )
    rows = {
        side: ",\n".join(
            f"    {_c_comment(column_of(key, spec))}"
            f"{{{json.dumps(key)}, {json.dumps(names[side][key][0])}, {names[side][key][1]}}}"
            for key, spec in specs[side].items()
        )
        for side in ("inputs", "outputs")
    }
    return string.Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        inputs=rows["inputs"],
        outputs=rows["outputs"],
        values="\n    ".join(made),
        arguments=" ".join(_argument(key, spec) for key, spec in specs["inputs"].items()),
    )


def _c_comment(text: str) -> str:
    return f"/* {text.replace('*/', '* /').replace('/*', '/ *')} */ " if text else ""


def c_arguments(specs: Specs, golden: Mapping[str, np.ndarray]) -> str:
    """Returns the command-line arguments of the C program for one example."""
    golden = complete({key: golden[key] for key in specs if key in golden})
    words = []
    for key, spec in specs.items():
        value = _example(golden.get(key), spec)
        if _is_bytes(spec):
            words.append(_path(spec))
        elif spec["dtype"] == "string":
            words += map(str, np.ravel(np.array(value or [""], object)).tolist())
        else:
            zeros = np.zeros([size or 2 for size in spec["shape"][1:]])
            plain = np.ravel(zeros if value is None else value).tolist()
            words += [f"{number:g}" if spec["dtype"].startswith("float") else str(int(number)) for number in plain]
    return shlex.join(words)


def _argument(key: str, spec: Mapping[str, Any]) -> str:
    if _is_bytes(spec):
        return "FILE"
    scalar = spec["dtype"] == "string" or len(spec["shape"]) == 1
    return key.upper() if scalar else f"NUMBER_OF_{key.upper()}..."


def _example(values: np.ndarray | None, spec: Mapping[str, Any]) -> list[Any] | None:
    """Returns the first golden example as a list of one element, shortened if it stays valid; None if it is too long."""
    if values is None:
        return None
    if values.dtype == object and values.ndim > 1:  # lists of ids, padded with empty ones
        texts = [part.decode("utf-8", "replace") for part in np.ravel(values[0]).tolist() if part]
        shape = [size or -1 for size in spec["shape"][1:]]
        return None if len(texts) > _MOST_NUMBERS else [np.array(texts or [""], object).reshape(shape).tolist()]
    if values.dtype == object:
        text = bytes(values[0]).decode("utf-8", "replace")
        cut = text[:_LONGEST_TEXT].rpartition(" ")[0] if len(text) > _LONGEST_TEXT else text
        return [cut or text]  # an id has no spaces and is not cut
    first = values[0]
    if spec["shape"][1:] and spec["shape"][1] is None:
        first = first[:2] if first.ndim > 1 else first[: np.count_nonzero(first) or 1]
    if first.size > _MOST_NUMBERS:
        return None
    plain = first if first.dtype.kind != "f" else np.vectorize(lambda x: float(f"{x:.4g}"))(first)
    return [plain.tolist()]
