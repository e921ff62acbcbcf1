"""The VAE of docs/metrics.md, which has no part of the suite but its measures, and its training by Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from vaebench.metrics import ImportanceWeightedLogLikelihood

K = 500


def plain_vae() -> Any:
    """The module that the page shows."""
    page = (Path(__file__).parents[1] / "docs/metrics.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) < 50
    found: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, "docs/metrics.md", "exec"), found)
    model = found["PlainVAE"]().double()
    model.log_likelihood = ImportanceWeightedLogLikelihood(k=K)
    return model


def images() -> Tensor:
    """60 images of four prototypes with noise."""
    torch.manual_seed(0)
    prototypes = torch.rand(4, 1, 4, 4) < 0.5
    return (prototypes[torch.arange(60) % 4].double() - (torch.rand(60, 1, 4, 4) < 0.05).double()).abs()


def trained(processes: int = 1, model: Any = None) -> tuple[Any, dict[str, float]]:
    """The module, by default the page's, after three epochs, and what it logged in the last validation."""
    x, model = images(), model or plain_vae()
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
        precision="64-true", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, DataLoader(x, 10), DataLoader(x, 25))
    return model, {name: float(value) for name, value in trainer.callback_metrics.items()}
