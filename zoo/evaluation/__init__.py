"""Evaluation: how good is a trained model, and where is it wrong."""

from zoo.evaluation.evaluator import evaluate, summarize

__all__ = ["evaluate", "summarize"]
