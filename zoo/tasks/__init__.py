"""Tasks: targets, losses, metrics, reports, and the inputs and outputs of a SavedModel. README.md says how to add one."""

from zoo.tasks.contract import (
    Compared,
    Measure,
    Objective,
    Request,
    Served,
    Shown,
    Signature,
    Task,
    Term,
)
from zoo.tasks.kinds import (
    ANSWER_KINDS,
    REQUEST_KINDS,
    RequestKind,
    register_answer_kind,
    register_request_kind,
)
from zoo.tasks.named_tensors import INPUT_NAMES, call_model, model_input, named_outputs, output_names
from zoo.tasks.registry import get_task, list_tasks, register_task

__all__ = [
    "ANSWER_KINDS",
    "INPUT_NAMES",
    "REQUEST_KINDS",
    "Compared",
    "Measure",
    "Objective",
    "Request",
    "RequestKind",
    "Served",
    "Shown",
    "Signature",
    "Task",
    "Term",
    "call_model",
    "get_task",
    "list_tasks",
    "model_input",
    "named_outputs",
    "output_names",
    "register_answer_kind",
    "register_request_kind",
    "register_task",
]
