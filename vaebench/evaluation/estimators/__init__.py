"""Estimators: pure functions of a model's three parts and images."""
