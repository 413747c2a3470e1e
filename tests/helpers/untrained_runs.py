"""Finished runs whose model was not trained, which take no time."""

from __future__ import annotations

import zoo
from zoo.training.run_directory import RunDirectory


def untrained(directory, name, model, *, data=None, **arguments):
    """Writes the files of a finished run without training; `data` are arguments of `zoo.datasets.load`."""
    prepared = zoo.datasets.load(name, model=model, **(data or {})).prepare(model, **arguments)
    network = prepared.build(seed=1)
    opened = RunDirectory(
        directory, {**prepared.describe(), "config": zoo.TrainConfig().to_dict()}, interface=prepared.interface
    )
    opened.record()
    opened.write_model(network)
    opened.close()
    return prepared
