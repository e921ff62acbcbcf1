"""Settings shared by all tests."""

from __future__ import annotations

import os

import torch

os.environ["OMP_NUM_THREADS"] = "1"  # child processes too: models of a few units gain nothing from threads
torch.set_num_threads(1)
