"""What two processes find, for the tests of both files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What each of two processes finds, which must be the same, and their folder."""
    folder = tmp_path_factory.mktemp("ranks")
    subprocess.run([sys.executable, "tests/metric_ranks.py", str(folder)], cwd=ROOT, check=True, timeout=200)
    first, second = (json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    return first, folder
