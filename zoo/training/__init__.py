"""Training: strategies, the loop, checkpoints and resume, history and plots."""

from zoo.training.loop.signals import Interrupted
from zoo.training.mixed_precision import precision
from zoo.training.protocols import TrainResult
from zoo.training.strategies import strategy
from zoo.training.trainer import train

__all__ = ["Interrupted", "TrainResult", "precision", "strategy", "train"]
