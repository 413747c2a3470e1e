"""Fine-tuning of language models: frozen layers, LoRA and rates by layer."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from zoo.training.adaptations.layer_decay import groups


@pytest.fixture(scope="module")
def prepared():
    return zoo.datasets.load("spoken_sums").prepare("gpt", max_length=32, hidden_size=16, num_layers=2, num_heads=2)


def changes(prepared, **options):
    """The difference of every weight that a short training changes, by its path."""
    model = prepared.build(seed=0)
    before = {v.path: v.numpy() for v in model.weights}
    config = zoo.TrainConfig(epochs=1, batch_size=256, learning_rate=0.01, **options)
    after = {v.path: v.numpy() for v in zoo.train(model, prepared, config, verbose=0).model.weights}
    assert before.keys() == after.keys(), "the result is a plain model"
    return {name: after[name] - before[name] for name in before if (after[name] != before[name]).any()}


def test_tables_have_the_lowest_rate_and_the_last_block_the_whole_one(prepared):
    found = groups(prepared.build(seed=0))
    assert found == {"norm": 0, "block_2": 0, "block_1": 1, "positions": 2, "tokens": 2}


@pytest.mark.slow
def test_frozen_tables_and_blocks_are_bit_identical(prepared):
    found = changes(prepared, freeze=["tokens", "positions", "block_1"])
    assert {name.split("/")[0] for name in found} == {"block_2", "norm"}


@pytest.mark.slow
def test_lora_changes_kernels_by_matrices_of_low_rank(prepared):
    found = changes(prepared, lora_rank=2, freeze=["block_1/outer"])
    names = [
        f"block_{n}/{part}/kernel" for n in (1, 2) for part in ("query_key_value", "attention_output", "inner", "outer")
    ]
    assert set(found) == {*names} - {"block_1/outer/kernel"}
    for difference in found.values():
        assert np.linalg.matrix_rank(difference.reshape(-1, difference.shape[-1]), tol=1e-5) == 2
