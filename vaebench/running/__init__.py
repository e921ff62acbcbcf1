"""Runs from training to record: benchmarks, evaluation of checkpoints, and several processes per evaluation."""
