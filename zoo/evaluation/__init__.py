"""Evaluation: how good is a trained model, and where is it wrong."""

from zoo.evaluation.evaluator import evaluate, figures, headline, summarize
from zoo.evaluation.reports import Figure

__all__ = ["Figure", "evaluate", "figures", "headline", "summarize"]
