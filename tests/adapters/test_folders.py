"""Folders of pythae, MultiVae and diffusers give the densities of the models that wrote them; nothing in them runs.

The adapters were compared with the packages themselves, pythae 0.1.2, MultiVae 1.0.3 and diffusers 0.42.1, which are
not installed here; these tests write the same files and compute what the packages compute.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vaebench.adapters import open_adapter
from vaebench.errors import Unavailable, UserError
from vaebench.measures import DataSpec

SHAPE, LATENT, WIDTH = (1, 4, 4), 3, 512
BITS = (torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def dense(name: str, sizes: tuple[int, int]) -> dict[str, Tensor]:
    layer = nn.Linear(*sizes)
    return {f"{name}.weight": layer.weight.data, f"{name}.bias": layer.bias.data}


def apply(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def saved(folder: Path, settings: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    folder.mkdir()
    (folder / "model_config.json").write_text(json.dumps(settings))
    (folder / "environment.json").write_text('{"name": "EnvironmentConfig", "python_version": "3.11"}')
    torch.save({"model_state_dict": weights}, folder / "model.pt")
    return folder


def pythae(folder: Path, name: str = "VAEConfig", gaussian: bool = True, **changes: Any) -> Path:
    torch.manual_seed(0)
    settings = {"name": name, "input_dim": list(SHAPE), "latent_dim": LATENT, "uses_default_encoder": True,
                "uses_default_decoder": True, "reconstruction_loss": "bce", **changes}  # fmt: skip
    weights = {**dense("encoder.layers.0.0", (16, WIDTH)), **dense("encoder.embedding", (WIDTH, LATENT)),
               **(dense("encoder.log_var", (WIDTH, LATENT)) if gaussian else {}),
               **dense("decoder.layers.0.0", (LATENT, WIDTH)), **dense("decoder.layers.1.0", (WIDTH, 16))}  # fmt: skip
    return saved(folder, settings, weights)


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_pythaes_densities_are_those_of_its_losses(tmp_path: Path, loss: str) -> None:
    folder = pythae(tmp_path / "model", reconstruction_loss=loss)
    x = BITS if loss == "bce" else BITS * 0.8 + 0.1
    model = open_adapter(f"pythae:{folder}", DataSpec(SHAPE, "binary" if loss == "bce" else "continuous")).model
    w = torch.load(folder / "model.pt", weights_only=True)["model_state_dict"]
    h = apply(w, "encoder.layers.0.0", x.flatten(1)).relu()
    mean, log_variance = apply(w, "encoder.embedding", h), apply(w, "encoder.log_var", h)
    q = model.posterior(x)
    torch.testing.assert_close((q.mean, q.variance), (mean, log_variance.exp()))
    z = torch.randn(2, 5, LATENT)
    made = apply(w, "decoder.layers.1.0", apply(w, "decoder.layers.0.0", z).relu()).sigmoid()
    cost = nn.functional.binary_cross_entropy(made, x.flatten(1).expand_as(made), reduction="none")
    if loss == "mse":
        cost = (made - x.flatten(1)).square() / 2 + torch.log(torch.tensor(2 * torch.pi)) / 2
    torch.testing.assert_close(model.likelihood(z).log_prob(x), -cost.sum(-1), rtol=1e-5, atol=1e-4)
    assert model.prior().event_shape == (LATENT,)


@pytest.mark.parametrize(
    ("name", "gaussian", "prior"),
    [("WAE_MMD_Config", False, True), ("RAE_L2_Config", False, False), ("MSSSIM_VAEConfig", True, True)],
)
def test_what_pythae_trains_without_a_likelihood_has_none(
    tmp_path: Path, name: str, gaussian: bool, prior: bool
) -> None:
    model = open_adapter(f"pythae:{pythae(tmp_path / 'm', name, gaussian)}", DataSpec(SHAPE)).model
    with pytest.raises(Unavailable, match="no log-probability of images"):
        model.likelihood(torch.zeros(1, 5, LATENT)).log_prob(BITS)
    assert model.likelihood(torch.zeros(1, 5, LATENT)).mean.shape == (1, 5, *SHAPE)
    if not prior:
        with pytest.raises(Unavailable, match="no prior"):
            model.prior()


def test_a_loss_of_another_measure_is_no_density(tmp_path: Path) -> None:
    model = open_adapter(f"pythae:{pythae(tmp_path / 'm')}", DataSpec(SHAPE, "discrete256")).model
    with pytest.raises(Unavailable, match="of binary images, and these are 'discrete256'"):
        model.likelihood(torch.zeros(1, 5, LATENT)).log_prob(BITS)


def multivae(folder: Path, name: str) -> Path:
    torch.manual_seed(0)
    settings = {"name": f"{name}Config", "n_modalities": 2, "latent_dim": LATENT, "custom_architectures": [],
                "input_dims": {"img": list(SHAPE), "other": [3, 2, 2]}, "decoders_dist": {"img": "bernoulli",
                "other": "laplace"}, "decoder_dist_params": {"other": {"scale": 0.5}}}  # fmt: skip
    weights: dict[str, Tensor] = {}
    for modality, size in (("img", 16), ("other", 12)):
        encoder, decoder = f"encoders.{modality}", f"decoders.{modality}"
        weights |= {**dense(f"{encoder}.layers.0.0", (size, WIDTH)), **dense(f"{encoder}.layers.1.0", (WIDTH, WIDTH)),
                    **dense(f"{encoder}.embedding", (WIDTH, LATENT)), **dense(f"{encoder}.log_var", (WIDTH, LATENT)),
                    **dense(f"{decoder}.layers.0.0", (LATENT, WIDTH)),
                    **dense(f"{decoder}.layers.1.0", (WIDTH, size))}  # fmt: skip
    return saved(folder, settings, weights)


@pytest.mark.parametrize("name", ["JMVAE", "MVAE", "MVTCAE", "MoPoE"])
def test_multivaes_modalities_have_their_own_posteriors_and_densities(tmp_path: Path, name: str) -> None:
    folder = multivae(tmp_path / "m", name)
    w = torch.load(folder / "model.pt", weights_only=True)["model_state_dict"]
    model = open_adapter(f"multivae:{folder}", DataSpec(SHAPE)).model
    h = BITS.flatten(1)
    for layer in (0, 1):
        h = apply(w, f"encoders.img.layers.{layer}.0", h).relu()
    mean, variance = apply(w, "encoders.img.embedding", h), apply(w, "encoders.img.log_var", h).exp()
    if name == "MVAE":  # times N(0, 1)
        mean, variance = mean / (1 + variance), variance / (1 + variance)
    q = model.posterior(BITS)
    torch.testing.assert_close((q.mean, q.variance), (mean, variance))
    z, y = torch.randn(2, 5, LATENT), torch.rand(5, 3, 2, 2)
    other = open_adapter(f"multivae:{folder}:other", DataSpec((3, 2, 2), "continuous")).model
    made = apply(w, "decoders.other.layers.1.0", apply(w, "decoders.other.layers.0.0", z).relu()).sigmoid()
    found = torch.distributions.Laplace(made, 0.5).log_prob(y.flatten(1)).sum(-1)
    torch.testing.assert_close(other.likelihood(z).log_prob(y), found)


class Stub(nn.Module):
    """What an autoencoder of diffusers shows of itself; of a VQModel also `quantize`."""

    def __init__(self, codes: int = 0, **settings: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_vq_embeddings=codes)
        self.down, self.up = nn.Conv2d(3, 2 if codes else 4, 2, 2), nn.ConvTranspose2d(2, 3, 2, 2)
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(codes, 2)} if codes else {})
        self.quantize.embedding = self.quantize["embedding"] if codes else None

    @classmethod
    def from_config(cls, settings: dict[str, Any]) -> Stub:
        assert not any(key.startswith("_") for key in settings)
        return cls(settings.get("num_vq_embeddings", 0))

    def encode(self, x: Tensor) -> SimpleNamespace:
        assert x.min() < -0.5  # in [−1, 1]
        made = self.down(x)
        return SimpleNamespace(latents=made, latent_dist=SimpleNamespace(parameters=made))

    def decode(self, z: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.up(z))


def diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, codes: int) -> Stub:
    module = ModuleType("diffusers")
    vars(module).update(AutoencoderKL=Stub, VQModel=Stub)
    monkeypatch.setitem(sys.modules, "diffusers", module)
    torch.manual_seed(0)
    network = Stub(codes)
    folder.mkdir()
    settings = {"_class_name": name, "_diffusers_version": "0.42.1", "in_channels": 3}
    (folder / "config.json").write_text(json.dumps(settings | ({"num_vq_embeddings": codes} if codes else {})))
    save_file(network.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return network


def test_a_latent_of_diffusers_is_a_grid_of_gaussians(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = diffusers(tmp_path / "kl", monkeypatch, "AutoencoderKL", 0)
    model = open_adapter(f"diffusers:{tmp_path / 'kl'}", DataSpec((3, 4, 4), "discrete256")).model
    x = torch.rand(5, 3, 4, 4)
    mean, log_variance = network.down(2 * x - 1).chunk(2, 1)
    q = model.posterior(x)
    torch.testing.assert_close((q.mean, q.variance), (mean, log_variance.exp()))
    assert model.prior().event_shape == q.event_shape == (2, 2, 2)
    image = (network.up(q.mean) + 1) / 2
    torch.testing.assert_close(model.likelihood(q.mean[None]).mean[0], image.clamp(0, 1))


def test_a_model_of_the_hubs_cache_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "hub" / "models--someone--pipeline"
    (cache / "snapshots" / "abc").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    diffusers(cache / "snapshots" / "abc" / "vae", monkeypatch, "AutoencoderKL", 0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    spec = DataSpec((3, 4, 4), "discrete256")
    assert open_adapter("diffusers:someone/pipeline/vae", spec).name == "diffusers.AutoencoderKL"
    with pytest.raises(UserError, match="is not downloaded"):
        open_adapter("diffusers:someone/else", spec)


def test_codes_of_diffusers_are_the_nearest_and_cost_log_k_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = diffusers(tmp_path / "vq", monkeypatch, "VQModel", 7)
    model = open_adapter(f"diffusers:{tmp_path / 'vq'}", DataSpec((3, 4, 4), "discrete256")).model
    x = torch.rand(5, 3, 4, 4)
    vectors = network.down(2 * x - 1).permute(0, 2, 3, 1)
    book = network.quantize["embedding"].weight
    nearest = book[torch.cdist(vectors.flatten(0, 2), book).argmin(-1)].view_as(vectors)
    q = model.posterior(x)
    torch.testing.assert_close(q.mean, nearest.flatten(1))
    image = (network.up(nearest.permute(0, 3, 1, 2)) + 1) / 2
    torch.testing.assert_close(model.likelihood(q.mean[None]).mean[0], image.clamp(0, 1))
    rate = torch.distributions.kl_divergence(q, model.prior())
    torch.testing.assert_close(rate, torch.full((5,), 4 * torch.tensor(7.0).log()))


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("sprung").touch, ())


def test_nothing_in_a_folder_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = pythae(tmp_path / "weights")
    torch.save({"model_state_dict": {"encoder.embedding.weight": Trap()}}, folder / "model.pt")
    with pytest.raises(UserError, match="nothing else is unpickled"):
        open_adapter(f"pythae:{folder}", DataSpec(SHAPE))
    folder = pythae(tmp_path / "networks", uses_default_encoder=False)
    (folder / "encoder.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match=r"pickles are not opened.*FILE\.py:FUNCTION"):
        open_adapter(f"pythae:{folder}", DataSpec(SHAPE))
    assert not (tmp_path / "sprung").exists()


FAULTS: dict[str, tuple[dict[str, Any], tuple[int, ...], str]] = {
    "a class that is none": ({"name": "os.system"}, SHAPE, "unknown class of pythae's 'os.system'"),
    "a class that is not supported": ({"name": "VAMPConfig"}, SHAPE, "unknown class of pythae's 'VAMP'.*FILE.py"),
    "other images": ({}, (1, 8, 8), r"images of shape \(1, 4, 4\), and these have \(1, 8, 8\)"),
    "other weights": ({"latent_dim": 4}, SHAPE, "does not fit the network that its settings describe"),
    "a shape of words": ({"input_dim": ["a"]}, SHAPE, "input_dim"),
    "a negative size": ({"latent_dim": -1}, SHAPE, "latent_dim -1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_wrong_is_answered_with_a_sentence(tmp_path: Path, fault: str) -> None:
    changes, shape, sentence = FAULTS[fault]
    with pytest.raises(UserError, match=sentence):
        open_adapter(f"pythae:{pythae(tmp_path / 'm', **changes)}", DataSpec(shape))


@pytest.mark.parametrize(("text", "sentence"), [
    ("pythae:nowhere", "'nowhere' is no folder here"),
    ("diffusers:stabilityai/sd-vae", "is not downloaded"),
    ("nowhere.py:build", "--include is 'nowhere.py'"),
    ("theirs", "expected FILE.py:FUNCTION"),
])  # fmt: skip
def test_an_adapter_that_is_not_there_is_answered_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_adapter(text, DataSpec(SHAPE))
