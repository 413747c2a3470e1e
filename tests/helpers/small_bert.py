"""Sizes of a BERT model that builds quickly."""

from __future__ import annotations

SMALL = {"hidden_size": 8, "num_heads": 2, "num_layers": 1, "intermediate_size": 10, "max_length": 12}
