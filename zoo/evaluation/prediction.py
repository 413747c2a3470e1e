"""A model's predictions for a whole split, for reports."""

from zoo.predictions import Arrays, joined, predict_split

__all__ = ["Arrays", "joined", "predict_split"]
