"""Benchmarks: they print ratios, and never say pass or fail."""
