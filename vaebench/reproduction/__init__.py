"""Reproduction of records by others: retraining, re-evaluation, and result cards. See docs/reproduction.md."""
