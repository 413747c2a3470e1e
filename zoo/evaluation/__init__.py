"""Evaluation: metrics of a trained model next to baselines, and plots of its errors."""

from zoo.evaluation.evaluator import evaluate, figures, headline, plot_files, summarize
from zoo.evaluation.reports import Figure, ReportKind, register_report

__all__ = ["Figure", "ReportKind", "evaluate", "figures", "headline", "plot_files", "register_report", "summarize"]
