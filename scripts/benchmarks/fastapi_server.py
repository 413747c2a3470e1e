"""A plain FastAPI server over a SavedModel, as most tutorials write it: one handler, one call of TensorFlow per request."""

from __future__ import annotations

import base64
import os
import sys
from typing import Any


def main(path: str, port: int) -> None:
    """Serves `POST /v1/models/model:predict` with the row format of one input; runs until it is stopped."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import fastapi
    import tensorflow as tf
    import uvicorn

    loaded = tf.saved_model.load(path)
    app = fastapi.FastAPI()

    def value(given: Any) -> Any:
        return base64.b64decode(given["b64"]) if isinstance(given, dict) else given

    @app.post("/v1/models/model:predict")
    def predict(body: dict[str, Any]) -> dict[str, Any]:
        function = loaded.signatures[body["signature_name"]]
        specs = function.structured_input_signature[1]
        rows = [
            row if isinstance(row, dict) and set(row) == set(specs) else {next(iter(specs)): row}
            for row in body["instances"]
        ]
        tensors = {name: tf.constant([value(row[name]) for row in rows], spec.dtype) for name, spec in specs.items()}
        outputs = {name: output.numpy() for name, output in function(**tensors).items()}
        plain = {
            name: [[part.decode() for part in output.ravel()] if output.dtype == object else output.tolist()][0]
            for name, output in outputs.items()
        }
        return {"predictions": [{name: part[row] for name, part in plain.items()} for row in range(len(rows))]}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
