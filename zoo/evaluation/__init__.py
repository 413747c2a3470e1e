"""Evaluation: metrics of a trained model next to baselines, and plots of its errors."""

from zoo.evaluation.evaluator import (
    evaluate,
    evaluate_run,
    figures,
    headline,
    plot_files,
    read_report,
    record,
    report_file,
    standing,
    summarize,
)
from zoo.evaluation.reports import Figure, ReportKind, get_report, register_report
from zoo.evaluation.requirements import read_requirements, unmet

__all__ = [
    "Figure",
    "ReportKind",
    "evaluate",
    "evaluate_run",
    "figures",
    "get_report",
    "headline",
    "plot_files",
    "read_report",
    "read_requirements",
    "record",
    "register_report",
    "report_file",
    "standing",
    "summarize",
    "unmet",
]
