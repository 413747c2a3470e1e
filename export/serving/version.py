"""One version of a model: the loaded SavedModel, its thread, and what its metadata says."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, did_you_mean
from zoo.export import artifact_paths, zoo_json
from zoo.export.loading import LoadedModel
from zoo.export.serving.batching import Batcher
from zoo.export.serving.refusals import Refused
from zoo.export.serving.settings import Settings
from zoo.export.serving.values import Input
from zoo.export.signature_columns import needed_inputs
from zoo.export.standalone import arrays
from zoo.tasks import REQUEST_KINDS

_WARM_ROWS = (1, 8)


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """What the protocols need to know of a signature.

    Attributes:
        inputs: its inputs by name.
        outputs: its outputs by name, with types and shapes.
        is_batched: whether every output has a row for each example.
        is_joined: whether requests may be computed together: no output is padded to the longest example of a batch.
        entry: its entry in zoo.json; empty for a third-party SavedModel.
        golden: golden inputs by name; empty without golden examples.
        answers: golden outputs by name.
        defaults: the values of inputs that a request may leave out.
    """

    inputs: dict[str, Input]
    outputs: dict[str, tf.TensorSpec]
    is_batched: bool
    is_joined: bool
    entry: Mapping[str, Any]
    golden: Mapping[str, np.ndarray]
    answers: Mapping[str, np.ndarray]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def has_steady_cost(self) -> bool:
        """Whether requests of equal size take about the same time: no text is generated, and no input sets its length."""
        return self.is_joined and not self.defaults and not self.entry.get("generates")

    @property
    def needed(self) -> list[str]:
        """The inputs that a request must have."""
        return list(needed_inputs(self.inputs, self.defaults))


class Version:
    """A loaded version of a model.

    Args:
        path: the version folder.
        number: its version number.
        settings: the settings of the server.
        observe: see `Batcher`.

    Raises:
        UsageError: the SavedModel is damaged, has dangerous ops, or cannot be loaded.

    Example:
        >>> version = Version(Path("exports/digits/1"), 1, Settings())
        >>> list(version.signatures)
        ['serving_default', 'features', 'predict', 'top_k']
    """

    def __init__(
        self, path: Path, number: int, settings: Settings, observe: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        artifact_paths.check_files(path)
        if changed := artifact_paths.changes(path):
            raise UsageError(
                f"{path} has changed since its export: {'; '.join(changed[:3])}. Copy the folder again; `zoo verify {path}` "
                "checks it."
            )
        self.number, self.path = number, path
        self.model = LoadedModel(path)
        self._folder = None
        if settings.runtime != "tensorflow":
            from zoo.export.serving import model_runtime

            self._folder = tempfile.TemporaryDirectory(prefix="zoo-serve-")  # removed with this object
            model_runtime.replace_model(self.model, settings.runtime, Path(self._folder.name))
        golden = path / artifact_paths.EXTRA / "golden.npz"
        self.facts: Mapping[str, Any] = zoo_json.read(path)
        self._golden = arrays.load(golden) if golden.is_file() else {}
        self.labels = self.model.labels()
        self.signatures = {name: self._described(name) for name in self.model.signatures()}
        self.default = "serving_default" if "serving_default" in self.signatures else next(iter(self.signatures), "")
        self._warm()
        self.batcher = Batcher(self._call, max_rows=settings.max_batch, max_waiting=settings.max_queue, observe=observe)

    def _described(self, name: str) -> SignatureInfo:
        inputs, outputs = self.model.specs(name)
        kinds = self.model.kinds(name)
        entries = zoo_json.signatures(self.facts)
        golden = arrays.examples(self._golden, entries, name) if self._golden else ({}, {})
        shapes = [output.shape for output in outputs.values()]
        batched = all(shape.rank is not None and shape.rank > 0 and shape[0] is None for shape in shapes)
        fixed = batched and all(None not in shape.as_list()[1:] for shape in shapes)
        return SignatureInfo(
            {
                key: Input(spec, REQUEST_KINDS.get(kinds[key]).is_bytes, kinds[key])
                for key, spec in sorted(inputs.items())
            },
            {key: tf.TensorSpec(tensor.shape, tensor.dtype, key) for key, tensor in sorted(outputs.items())},
            batched,
            fixed,
            entries.get(name, {}),
            *golden,
            self.model.defaults(name),
        )

    def _warm(self) -> None:
        """Calls every signature with its golden examples, so that the first client does not wait for it."""
        for name, info in self.signatures.items():
            for rows in _WARM_ROWS if info.golden else ():
                try:
                    answer = self._call(name, {key: value[:rows] for key, value in info.golden.items()})
                    for other, following in self.signatures.items():
                        if following.entry.get("continues") == name:
                            self._call(other, {key: answer[key] for key in following.inputs})
                except UsageError as error:
                    raise UsageError(f"{self.path} rejects its own golden examples: {error}") from error

    def _call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.model(inputs, signature)

    def signature(self, name: str | None) -> tuple[str, SignatureInfo]:
        """Returns a signature by name, by default `serving_default`.

        Raises:
            Refused: there is no such signature.
        """
        chosen = self.default if name in (None, "") else name
        if not isinstance(chosen, str) or chosen not in self.signatures:
            raise Refused(400, f"There is no signature {chosen!r:.60}. {did_you_mean(str(chosen), self.signatures)}")
        return chosen, self.signatures[chosen]

    async def answer(
        self, signature: str, inputs: Mapping[str, np.ndarray], *, alone: bool = False
    ) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch; it may be computed together with other requests. A short request of the only
        client (`alone`) may be computed in this thread, if those of its size take about the same time.

        Raises:
            Refused: the graph rejects it, or too many requests wait. For several rows, the message names the invalid one.
            Drained: the version is no longer served.
        """
        info = self.signatures[signature]
        sizes = {len(value) if value.ndim else 0 for value in inputs.values()}
        rows = max(sizes, default=0)
        shapes = tuple((key, value.shape[1:]) for key, value in sorted(inputs.items()))
        key = (signature, shapes) if info.is_joined and len(sizes) == 1 and rows else None
        try:
            may_be_now = alone and rows == 1 and info.has_steady_cost
            if may_be_now and (found := self.batcher.answer_now(signature, inputs)) is not None:
                return found
            return await asyncio.wrap_future(self.batcher.submit(signature, inputs, rows, key))
        except UsageError as error:
            refused = _refused(error)
            if len(sizes) == 1 and rows > 1 and refused.status == 400:
                refused = await self._of_invalid_row(signature, inputs, rows) or refused
            raise refused from error

    async def _of_invalid_row(self, signature: str, inputs: Mapping[str, np.ndarray], rows: int) -> Refused | None:
        """Returns the refusal of the first row that is rejected, found by bisection; None if every row is accepted alone."""
        start, stop = 0, rows
        while stop - start > 1:
            middle = (start + stop) // 2
            if await self._tried(signature, inputs, start, middle) is None:
                start = middle
            else:
                stop = middle
        error = await self._tried(signature, inputs, start, stop)
        if error is None:
            return None
        refused = _refused(error)
        refused.row = start + 1
        return refused

    async def _tried(
        self, signature: str, inputs: Mapping[str, np.ndarray], start: int, stop: int
    ) -> UsageError | None:
        part = {name: value[start:stop] for name, value in inputs.items()}
        try:
            await asyncio.wrap_future(self.batcher.submit(signature, part, stop - start, None))
        except UsageError as error:
            return error
        return None

    def close(self) -> None:
        """Accepts no further requests; those that wait are still answered."""
        self.batcher.close()


def _refused(error: UsageError) -> Refused:
    """Returns the refusal for an error of the graph; the only row of a batch needs no number."""
    cause = error.__cause__
    status = 400
    if isinstance(cause, tf.errors.ResourceExhaustedError):
        status = 503
    elif isinstance(cause, tf.errors.OpError) and not isinstance(cause, _INVALID):
        status = 500
    return Refused(status, _ONLY_ROW.sub("", str(error)))


_INVALID = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, tf.errors.UnimplementedError)
_ONLY_ROW = re.compile(r", row 0(?=:)|\brow 0: ")
