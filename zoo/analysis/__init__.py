"""Finished models example by example: comparisons of two of them, and the worst mistakes of one."""

from zoo.analysis.comparing import compare
from zoo.analysis.comparison import Comparison
from zoo.analysis.mistakes import Mistakes, mistakes

__all__ = ["Comparison", "Mistakes", "compare", "mistakes"]
