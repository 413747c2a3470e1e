"""Evaluation: how good is a trained model, and where is it wrong."""

from zoo.evaluation.evaluator import evaluate, figures, headline, plot_files, summarize
from zoo.evaluation.reports import Figure

__all__ = ["Figure", "evaluate", "figures", "headline", "plot_files", "summarize"]
