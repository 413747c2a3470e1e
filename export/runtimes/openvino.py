"""OpenVINO: model.xml and model.bin, or a SavedModel with one signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from zoo.export.standalone.runtime import Request, Runtime, with_length
else:  # loaded by its path, with export/standalone first on sys.path
    from runtime import Request, Runtime, with_length


def convert(request: Request) -> None:
    """Writes model.xml and model.bin."""
    import openvino

    model = openvino.convert_model(request["model"])
    if request["length"]:
        shapes = {port: port.get_partial_shape() for port in model.inputs}
        fixed = {
            port: with_length([d.get_length() if d.is_static else None for d in s], request)
            for port, s in shapes.items()
        }
        model.reshape({port: [-1 if d is None else d for d in shape] for port, shape in fixed.items()})
    openvino.save_model(model, request["file"], compress_to_fp16=False)


def answer(request: Request) -> Any:
    """Loads an OpenVINO model, or a SavedModel directly."""
    import openvino

    core = openvino.Core()
    # Without the hint, a CPU with bfloat16 computes with about three digits.
    model = core.compile_model(core.read_model(request["file"]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answers(inputs: dict[str, Any]) -> dict[str, Any]:
        given = {port: inputs[name] for port in model.inputs for name in port.get_names() if name in inputs}
        result = model(given)
        return {name: result[port] for port in model.outputs for name in port.get_names()}

    return answers


RUNTIME = Runtime(
    title="OpenVINO",
    tolerance=1e-4,
    modules=("openvino",),
    version="openvino",
    format="openvino",
    file="model.xml",
    convert=convert,
    answer=answer,
    sample=(
        "import numpy as np, openvino",
        'model = openvino.compile_model("model.xml", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})',
        "print(model({{{inputs}}}).to_dict())",
    ),
    unsupported=(r"No translator found for (\w+) node", r"conversion is failed for operation:? (\w+)"),
    one_signature=True,
)
