"""Finished models example by example: comparisons of two of them, and the worst mistakes of one."""

from zoo.analysis.comparing import Comparison, compare
from zoo.analysis.mistakes import Mistakes, mistakes

__all__ = ["Comparison", "Mistakes", "compare", "mistakes"]
