"""Training: strategies, the loop, checkpoints and resume, history and plots."""

from zoo.training.interruption import Interrupted
from zoo.training.policies import precision
from zoo.training.protocols import TrainResult
from zoo.training.strategies import strategy
from zoo.training.trainer import train

__all__ = ["Interrupted", "TrainResult", "precision", "strategy", "train"]
