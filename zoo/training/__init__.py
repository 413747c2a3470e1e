"""Training: strategies, the loop, checkpoints and resume, history and plots."""

from zoo.training.loop import TrainResult, train
from zoo.training.strategies import strategy

__all__ = ["TrainResult", "strategy", "train"]
