"""Search for the settings of a model: trials are ordinary runs, and the test split is scored once, at the end."""

from zoo.tuning.search import tune
from zoo.tuning.tuned import Tuned

__all__ = ["Tuned", "tune"]
