"""Data flows one way, and the package stays as light as its commands promise."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "vaebench"
ABOVE_PARTS = ["core", "families", "evaluation", "data", "training", "records", "running", "leaderboard", "interface"]
RESULTS = ["records", "running", "leaderboard", "sweep"]
FORBIDDEN = {
    "functional": [*ABOVE_PARTS, "posteriors", "priors", "likelihoods", "distributions", "networks"],
    "networks": [*ABOVE_PARTS, "posteriors", "priors", "likelihoods", "distributions"],
    "distributions": [*ABOVE_PARTS, "posteriors", "priors", "likelihoods"],
    "posteriors": [*ABOVE_PARTS, "priors", "likelihoods"],
    "priors": [*ABOVE_PARTS, "likelihoods"],
    "core": ["families", "data", "evaluation", "training", "records", "running", "leaderboard", "interface"],
    "evaluation": ["families", "data", "training", "interface", "records", "leaderboard", "sweep", "running"],
    "metrics": ["families", "data", "training", "records", "leaderboard", "interface", "running", "sweep", "commands"],
    "families": ["evaluation", "data", "training", "records", "leaderboard", "running"],
    "data": ["core", "families", "evaluation", "records", "leaderboard", "training"],
    "configuration": [*ABOVE_PARTS, "sweep", "posteriors", "priors", "likelihoods", "networks"],
    "training": ["families", "evaluation", "leaderboard", "interface", "running", "sweep"],
    "adapters": [*RESULTS, "families", "training", "interface", "evaluation", "commands"],
    "records": [*(name for name in ABOVE_PARTS if name != "records"), "reproduction"],
    "judging": ["core", "families", "data", "evaluation", "training", "interface", "leaderboard", "running", "sweep"],
    "reproduction": ["families", "leaderboard", "sweep"],
    "leaderboard": ["core", "families", "data", "evaluation", "training", "interface", "running", "loggers"],
    "publishing": [
        "core",
        "families",
        "data",
        "evaluation",
        "training.solo",
        "training.population",
        "sweep",
        "commands",
    ],
    "loggers": ["core", "families", "evaluation", "interface", "running", "sweep", "commands"],
}


def _imports(path: Path, types: bool = True) -> set[str]:
    """All that a file imports, inside functions too; `types` counts what it imports for annotations alone."""
    found, tree = set(), ast.parse(path.read_text())
    if not types:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node))
        ]
    for node in ast.walk(tree):
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


def test_metrics_stand_on_estimators_and_serve_users_alone() -> None:
    """One implementation of each measure: a Metric calls what the harness calls."""
    room = PACKAGE / "metrics"
    own = {m for path in room.rglob("*.py") for m in _imports(path) if m.startswith("vaebench.")}
    allowed = ("metrics", "evaluation.estimators", "evaluation.contract", "evaluation.conditions", "core", "errors")
    assert not [m for m in own if not m.removeprefix("vaebench.").startswith(allowed)]
    for path in PACKAGE.rglob("*.py"):
        wrong = [m for m in _imports(path) if m == "vaebench.metrics" or m.startswith("vaebench.metrics.")]
        assert not wrong or room in path.parents, f"{path.relative_to(PACKAGE)} imports {wrong}"


def test_no_module_imports_itself_in_a_circle() -> None:
    """Imports inside functions count too: none of them hides a circle."""
    modules = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
               for path in PACKAGE.rglob("*.py")}  # fmt: skip
    names = set(modules.values()) - {"vaebench"}  # whose attributes are imported on first use
    graph = {module: (_imports(path, types=False) & names) - {module} for path, module in modules.items()}
    for module in graph:
        graph[module] -= {name for name in graph[module] if module.startswith(f"{name}.")}  # a package's own door
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' → '.join(reversed(error.args[1]))}")


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
        "import vaebench.publishing.submission",
        "import vaebench.loggers",
        "import vaebench.judging.serve",
    ],
)
def test_light_imports_do_not_pay_for_torch(code: str) -> None:
    script = f"import sys; {code}; print([m for m in ('torch', 'lightning', 'plotly', 'wandb') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_the_python_interface_does_not_pay_for_optuna() -> None:
    """It took 1.8 s, most of it SQLAlchemy, where `vb.sweep` alone needs either."""
    script = "import sys, vaebench.interface.commands; print([m for m in ('optuna', 'sqlalchemy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_absence_has_one_exception_and_one_place_that_asks_others_for_it() -> None:
    """torch raises NotImplementedError for a missing kernel too: `errors.absence` alone may catch it."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            caught = node.type if isinstance(node, ast.ExceptHandler) else None
            raised = node.exc if isinstance(node, ast.Raise) else None
            called = node if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress") else None
            if path.name != "errors.py" or raised:
                text = " ".join(ast.unparse(part) for part in (caught, raised, called) if part is not None)
                assert "NotImplementedError" not in text, f"{path.relative_to(PACKAGE)}:{node.lineno}: {text}"
