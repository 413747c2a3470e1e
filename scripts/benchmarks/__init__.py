"""Benchmarks that compare this package with other frameworks."""
