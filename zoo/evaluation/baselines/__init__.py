"""Simple methods that are fitted to raw examples, to which reports compare a model. One method per file."""

from zoo.evaluation.baselines.contract import (
    BASELINES,
    Baseline,
    Columns,
    chosen_baselines,
    probabilities,
    read_columns,
    register_baseline,
)

__all__ = ["BASELINES", "Baseline", "Columns", "chosen_baselines", "probabilities", "read_columns", "register_baseline"]
