"""Three users who have the wheel, an empty folder and files of their own: each comes to a board, as the docs say."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import nbformat
import numpy as np
import pytest
import skimage
import torch
from nbclient import NotebookClient
from PIL import Image
from safetensors.torch import save_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Run = Callable[..., str]

FAMILY = """
from vaebench.core import DataSpec, Family, Step


class MyVAE(Family):
    def __init__(self, data: DataSpec, weight: float = 0.5, **parts):
        super().__init__(data, **parts)
        self.hyper(weight=weight)

    def step(self, x, y, t):
        terms = self.terms(x, y, 1)
        return Step({"model": (terms.distortion + self.weight * terms.rate).mean()}, terms.logs)
"""
METRIC = '''
def edges(model, x):
    """Mean difference of neighbouring pixels of a reconstruction over that of its image."""
    made = model.likelihood(model.posterior(x).mean[None]).mean[0]
    return made.diff(dim=-1).abs().flatten(1).mean(1) / (x.diff(dim=-1).abs().flatten(1).mean(1) + 0.01)
'''
PROTOCOL = """
measurements:
  likelihood: {k: 50}
  reconstruction: {}
  edges: {class_path: my_metrics.edges, higher_is_better: true}
"""
DIFFUSERS = '''
from types import SimpleNamespace

from torch import nn


class AutoencoderKL(nn.Module):
    """What the adapter sees of diffusers' class, where diffusers is not installed."""

    def __init__(self, in_channels=1, latent_channels=2, **others):
        super().__init__()
        self.down = nn.Conv2d(in_channels, 2 * latent_channels, 2, stride=2)
        self.up = nn.ConvTranspose2d(latent_channels, in_channels, 2, stride=2)

    @classmethod
    def from_config(cls, settings):
        return cls(**settings)

    def encode(self, x):
        return SimpleNamespace(latent_dist=SimpleNamespace(parameters=self.down(x)))

    def decode(self, z):
        return SimpleNamespace(sample=self.up(z))


VQModel = AutoencoderKL
'''
NOTEBOOK = (
    "import vaebench as vb\n\nlist(vb.families())[:3]",
    'run = vb.fit("vae", "digits", data_settings={"measure": "binary"}, trainer={"max_epochs": 2}, latent=4)\nrun',
    'other = vb.fit("beta_vae", "digits", data_settings={"measure": "binary"}, trainer={"max_epochs": 2}, latent=4)',
    'for checkpoint in (run, other):\n    vb.evaluate_checkpoint(checkpoint, "quick", k=50, limit=100)',
    "import torch\n\nreport = vb.evaluate(vb.load(run), torch.rand(50, 1, 8, 8) > 0.5, k=50)\nreport",
    "report.frame()",
    'boards = vb.leaderboard("results")\nboards',
    'print(vb.compare("vae", "beta_vae"))',
)


@pytest.fixture
def run(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `vaebench` of the installed wheel in an empty folder, and gives what it prints."""
    monkeypatch.chdir(tmp_path)
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("VAEBENCH", "PYTHON"))}

    def call(*words: str) -> str:
        command = [str(python), "-m", "vaebench", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=surroundings)
        assert done.returncode == 0, f"vaebench {' '.join(words)}: {done.stderr[-2000:]}"
        return done.stdout

    return call


def the(pattern: str) -> str:
    """The only file of a pattern."""
    (found,) = Path().glob(pattern)
    return str(found)


def test_own_pictures_family_and_metric_come_to_a_page(run: Run) -> None:
    with Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png") as picture:
        pixels = np.asarray(picture.convert("L").resize((160, 96)))
    Path("pngs").mkdir()
    for i, tile in enumerate(pixels.reshape(12, 8, 20, 8).swapaxes(1, 2).reshape(-1, 8, 8)):
        Image.fromarray(tile).save(f"pngs/{i:03}.png")
    Path("my_vae.py").write_text(FAMILY)
    Path("my_metrics.py").write_text(METRIC)
    Path("mine.yaml").write_text(PROTOCOL)
    images = ["--data", "folder", "--data.root", "pngs", "--trainer.max_epochs", "1"]
    run("fit", *images, "--model", "my_vae.MyVAE", "--model.weight", "0.7", "--model.latent", "4")
    run("fit", *images, "--model", "vae", "--model.latent", "4")
    for checkpoint in map(str, Path("runs").glob("*/model.ckpt")):
        named = ["--trust", "my_vae.MyVAE", "--include", "my_metrics.py", "--data.root", "pngs"]
        run("evaluate", checkpoint, *named, "--protocol", "mine.yaml")
    records = [json.loads(path.read_text()) for path in Path("results").rglob("record.json")]
    assert {record["family"] for record in records} == {"MyVAE", "vae"}
    for record in records:
        assert record["metrics"]["edges"]["value"] > 0
        assert json.loads(record["sources"]["my_metrics"]) == METRIC
    board = run("leaderboard", "results", "--html", "board.html", "--metric", "edges")
    page = Path("board.html").read_text()
    assert all(name in board and name in page for name in ("MyVAE", "vae"))


def pythae(folder: Path) -> None:
    """What pythae saves of a VAE of 8 × 8 bits with its default networks."""
    torch.manual_seed(0)
    settings = {"name": "VAEConfig", "input_dim": [1, 8, 8], "latent_dim": 3, "uses_default_encoder": True,
                "uses_default_decoder": True, "reconstruction_loss": "bce"}  # fmt: skip
    shapes = {"encoder.layers.0.0": (64, 512), "encoder.embedding": (512, 3), "encoder.log_var": (512, 3),
              "decoder.layers.0.0": (3, 512), "decoder.layers.1.0": (512, 64)}  # fmt: skip
    weights = {f"{name}.{kind}": value for name, shape in shapes.items()
               for kind, value in torch.nn.Linear(*shape).state_dict().items()}  # fmt: skip
    folder.mkdir()
    (folder / "model_config.json").write_text(json.dumps(settings))
    (folder / "environment.json").write_text('{"name": "EnvironmentConfig", "python_version": "3.11"}')
    torch.save({"model_state_dict": weights}, folder / "model.pt")


def diffusers(folder: Path) -> None:
    """An AutoencoderKL of diffusers' where that is installed; else what its folder holds, and a module in its place."""
    torch.manual_seed(0)
    if find_spec("diffusers"):
        from diffusers import AutoencoderKL

        AutoencoderKL(in_channels=1, out_channels=1, block_out_channels=(8, 8), latent_channels=2, norm_num_groups=4,
                      down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                      layers_per_block=1).save_pretrained(folder)  # fmt: skip
        return
    Path("diffusers.py").write_text(DIFFUSERS)
    names: dict[str, type[torch.nn.Module]] = {}
    exec(DIFFUSERS, names)
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "AutoencoderKL", "in_channels": 1, "latent_channels": 2}')
    save_file(names["AutoencoderKL"]().state_dict(), folder / "diffusion_pytorch_model.safetensors")


def test_models_of_pythae_and_diffusers_rank_beside_two_that_were_trained_here(run: Run) -> None:
    pythae(Path("theirs"))
    diffusers(Path("kl"))
    data = ["--data", "digits", "--data.measure", "binary"]
    judged = ["--protocol", "quick", "--k", "50", "--limit", "100"]
    for family in ("vae", "beta_vae"):
        run("fit", *data, "--model", family, "--model.latent", "3", "--trainer.max_epochs", "1")
        run("evaluate", the(f"runs/digits-{family}-*/model.ckpt"), *judged)
    run("evaluate", "--adapter", "pythae:theirs", *data, *judged)
    run("evaluate", "--adapter", "diffusers:kl", *data, *judged)
    names = ("vae", "beta_vae", "pythae.VAE", "diffusers.AutoencoderKL")
    board = json.loads(run("leaderboard", "results", "--metric", "mse", "--format", "json"))
    assert all(name in json.dumps(board) for name in names)
    likelihoods = run("leaderboard", "results", "--metric", "log_likelihood", "--format", "markdown")
    assert all(name in likelihoods for name in names[:3])
    assert "pythae.VAE" in run("compare", "vae", "pythae.VAE")


def test_a_notebook_runs_from_top_to_bottom(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "jupyter" / "kernels" / "installed"
    kernel.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "empty").mkdir()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in NOTEBOOK])
    place = {"metadata": {"path": str(tmp_path / "empty")}}
    NotebookClient(book, timeout=900, kernel_name="installed", resources=place).execute()
    shown = {cell.source: "".join(json.dumps(output) for output in cell.outputs) for cell in book.cells}
    assert "model.ckpt" in shown[NOTEBOOK[1]]
    assert "<table" in shown[NOTEBOOK[4]]
    assert "log_likelihood" in shown[NOTEBOOK[5]]
    assert "beta_vae" in shown[NOTEBOOK[6]]
    assert "vae" in shown[NOTEBOOK[7]]
