"""Benchmarks: our side and the others' in one call."""
