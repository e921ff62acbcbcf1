"""Runs: benchmarks, evaluation into records, and processes that share them."""
