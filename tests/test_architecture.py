"""Data flows one way, and the package stays as light as its commands promise."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vaebench"
ABOVE_PARTS = ["core", "families", "evaluation", "data", "training", "records", "leaderboard", "api", "population"]
FORBIDDEN = {
    "networks": [*ABOVE_PARTS, "posteriors", "priors", "likelihoods", "distributions"],
    "distributions": [*ABOVE_PARTS, "posteriors", "priors", "likelihoods"],
    "posteriors": [*ABOVE_PARTS, "priors", "likelihoods"],
    "priors": [*ABOVE_PARTS, "likelihoods"],
    "evaluation": ["families", "data", "training", "api", "records", "leaderboard", "sweep", "runs", "bench"],
    "families": ["evaluation", "data", "training", "records", "leaderboard", "runs", "bench"],
    "population": ["families", "evaluation", "leaderboard", "api", "runs", "bench", "sweep"],
    "data": ["core", "families", "evaluation", "records", "leaderboard", "training"],
    "standing.py": ["core", "families", "data", "evaluation", "training", "api", "leaderboard", "reproduction"],
    "judging": ["core", "families", "data", "evaluation", "training", "api", "leaderboard", "runs", "bench", "sweep"],
    "reproduction": ["families", "leaderboard", "sweep", "bench"],
    "leaderboard": ["core", "families", "data", "evaluation", "training", "api", "runs", "bench", "loggers"],
    "loggers": ["core", "families", "evaluation", "api", "population", "runs", "bench", "sweep", "commands"],
    "records.py": ["core", "families", "data", "evaluation", "training", "api", "leaderboard"],
    "core.py": ["families", "data", "evaluation", "training", "records", "leaderboard", "api"],
}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_nothing_points_backwards(layer: str) -> None:
    root = PACKAGE / layer
    files = [root] if root.suffix else sorted(root.rglob("*.py"))
    assert files
    for path in files:
        for target in FORBIDDEN[layer]:
            wrong = [m for m in _imports(path) if m == f"vaebench.{target}" or m.startswith(f"vaebench.{target}.")]
            assert not wrong, f"{path.relative_to(PACKAGE)} imports {wrong}"


def test_loggers_alone_know_what_they_log_to() -> None:
    for path in PACKAGE.rglob("*.py"):
        wrong = [m for m in _imports(path) if m.split(".")[0] in ("wandb", "wandb_workspaces", "tensorboardX")]
        assert not wrong or path.parent.name == "loggers", f"{path.relative_to(PACKAGE)} imports {wrong}"


@pytest.mark.parametrize(
    "code",
    [
        "import vaebench",
        "import vaebench.leaderboard",
        "import vaebench.records",
        "import vaebench.cli",
        "import vaebench.reproduction.cards",
        "import vaebench.loggers",
        "import vaebench.judging.serve",
    ],
)
def test_light_imports_do_not_pay_for_torch(code: str) -> None:
    script = f"import sys; {code}; print([m for m in ('torch', 'lightning', 'plotly', 'wandb') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
