"""The explorer: its decoder is the model's, its units are the active ones, and its page decodes in a browser."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from browser import TEXTS
from PIL import Image
from torch import Tensor

import vaebench as vb
from vaebench.cli import main
from vaebench.data.digits import Digits
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation import evaluate
from vaebench.evaluation.conditions import Conditioned, evaluation_mode
from vaebench.evaluation.drawing.decoder import onnx_decoder
from vaebench.evaluation.drawing.explorer import Explored, explored
from vaebench.evaluation.drawing.pictures import REACH, STOPS
from vaebench.evaluation.estimators.reconstruction import mean_image
from vaebench.evaluation.subject import Subject
from vaebench.running import explore as explorer

ROOT = Path(__file__).parents[2]
CONFIGURED = sorted(path.stem for path in (ROOT / "configs" / "family").glob("*.yaml") if "cifar" not in path.stem)
FEW = {"vae", "cvae", "ladder_vae"}  # plain, with labels, of several levels; all others at night
NO_MEAN = {"pixel_vae", "vlae"}
SETTINGS = {"vq_conv_vae": {"latent": 4}}  # as many as its grid has places for digits


def subject_of(name: str, limit: int = 6) -> Subject:
    """A configured family, untrained, and digits of a measure that it takes."""
    try:
        data = Digits()
        model = vb.build(name, data, **SETTINGS.get(name, {}))
    except UserError:
        data = Digits("continuous")
        model = vb.build(name, data)
    return Subject(model.eval(), data, limit=limit)


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGURED]
)
def test_the_decoder_in_onnx_is_the_decoder(name: str) -> None:
    """Of as many codes as wanted; a conditional model's beside their labels."""
    subject = subject_of(name)
    with evaluation_mode(subject.model, subject.device):
        z = subject.model.posterior(subject.x).sample()
    if not z.is_floating_point():
        return  # codes: refused by name below
    if name in NO_MEAN:
        with pytest.raises(Unavailable, match="no mean in closed form"):
            onnx_decoder(subject.model, z)
        return
    run = onnxruntime.InferenceSession(onnx_decoder(subject.model, z))
    with evaluation_mode(subject.model, subject.device):
        wanted = mean_image(subject.model, z[None])[0]
    inputs = {"z": z.numpy()} | ({"y": subject.model.y.numpy()} if name == "cvae" else {})
    (whole,) = run.run(["x"], inputs)
    (one,) = run.run(["x"], {key: values[:1] for key, values in inputs.items()})
    np.testing.assert_allclose(whole, wanted, atol=1e-5, rtol=0)
    np.testing.assert_allclose(one, wanted[:1], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of four latents, some of which it uses."""
    return vb.fit("vae", "digits", tmp_path_factory.mktemp("runs"), trainer={"max_epochs": 15}, latent=4)


@pytest.fixture(scope="module")
def found(checkpoint: Path) -> Explored:
    subject = Subject(vb.load(checkpoint), Digits())
    with evaluation_mode(subject.model, subject.device):
        return explored(subject)


def test_its_units_are_those_that_the_evaluation_calls_active(found: Explored, checkpoint: Path) -> None:
    report = evaluate(vb.load(checkpoint), Digits(), "quick", measurements={"units": {}}, progress=False)
    assert found.active == report.metrics["active_units"].value > 1
    variances = report.units["mean_variance"]
    assert [unit.number for unit in found.units] == sorted(range(4), key=lambda j: -variances[j])[: found.active]
    assert [unit.variance for unit in found.units] == [variances[unit.number] for unit in found.units]


def test_a_frame_is_the_decoded_code_with_one_unit_moved(found: Explored, checkpoint: Path) -> None:
    model, unit = vb.load(checkpoint), found.units[0]
    for stop in (0, STOPS // 2, STOPS - 1):
        z = found.z.clone()
        z[:, unit.number] = unit.centre + REACH * (2 * stop / (STOPS - 1) - 1) * unit.sd
        with evaluation_mode(model, torch.device("cpu")):
            torch.testing.assert_close(unit.frames[stop], mean_image(model, z[None])[0], atol=1e-5, rtol=0)


class Loud(torch.distributions.Normal):
    """Without a mean in closed form."""

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError


def test_activity_of_a_posterior_without_a_mean_is_that_of_its_samples(found: Explored, checkpoint: Path) -> None:
    model = vb.load(checkpoint)
    exact = model.posterior

    class Sampled(torch.nn.Module):
        def forward(self, x: Tensor) -> Any:
            return torch.distributions.Independent(Loud(exact(x).base_dist.loc, exact(x).base_dist.scale), 1)

    model.posterior = Sampled()
    subject = Subject(model, Digits())
    with evaluation_mode(model, subject.device):
        sampled = {unit.number: unit.variance for unit in explored(subject).units}
    assert subject.latents.mean is None
    for unit in found.units:
        assert sampled[unit.number] == pytest.approx(unit.variance, rel=0.15)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("vq_vae", "discrete"), ("fsq_vae", "discrete"), ("hyperspherical_vae", "no unit moves alone"),
     ("pixel_vae", "no mean in closed form|none of its"), ("vae", "none of its 50 units")],
)  # fmt: skip
def test_what_has_no_units_to_move_says_why(name: str, reason: str) -> None:
    subject = subject_of(name)
    for parameter in subject.model.posterior.parameters():  # one posterior for all images: no unit is active
        parameter.data.zero_()
    with evaluation_mode(subject.model, subject.device), pytest.raises(Unavailable, match=reason):
        explored(subject)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Path:
    """onnxruntime-web's files, which `make test` gets from npm."""
    folder = ROOT / "build" / explorer.RUNTIME
    if not all((folder / file.name).is_file() for file in explorer.FILES):
        pytest.skip(f"{explorer.RUNTIME} is missing; `make test` gets it where npm is")
    monkeypatch.setenv("VAEBENCH_DATA", str(folder.parent))
    return folder


class Serving(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a server of this machine in the place where onnxruntime-web is published, and an empty cache."""
    folder = tmp_path / "published"
    folder.mkdir()
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), partial(Serving, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(explorer, "FILES", [replace(f, url=f"{place}/{f.name}") for f in explorer.FILES])
        yield folder
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("_unexported")
def test_the_runtime_is_downloaded_once_and_only_as_it_was_pinned(
    published: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was changed on the way is not put into the page, which then shows frames and says why in one line."""
    for file in explorer.FILES:
        (published / file.name).write_bytes(b"// not it")
    assert main(["explore", str(checkpoint), "--out", str(tmp_path / "tampered")]) == 0
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "frames in place of decoding" in said
    assert "sha256 checksum" in said
    assert not list((tmp_path / "cache").rglob("*.mjs"))
    assert not (tmp_path / "tampered" / "runtime.js").exists()
    assert (tmp_path / "tampered" / "decoder.onnx").exists()
    sums = [replace(file, checksum=None) for file in explorer.FILES]
    monkeypatch.setattr(explorer, "FILES", sums)
    assert explorer.explore(checkpoint, tmp_path / "whole") is None
    for file in published.iterdir():
        file.unlink()
    assert explorer.explore(checkpoint, tmp_path / "again") is None
    assert (tmp_path / "again" / "runtime.js").read_bytes() == (tmp_path / "whole" / "runtime.js").read_bytes()


def test_a_mistake_is_one_sentence_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collapsed = vb.fit("vae", "digits", tmp_path, trainer={"max_steps": 1}, latent=2)
    (tmp_path / "taken").mkdir()
    for arguments in ([str(collapsed), "--out", f"{tmp_path}/page"], [str(checkpoint), "--out", f"{tmp_path}/taken"]):
        assert main(["explore", *arguments]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "page").exists()


def visit(browser: Any, folder: Path) -> tuple[Any, list[str]]:
    """Opens a page from its folder once it has drawn; the list grows by what it asks for outside, and says."""
    page, strange = browser.new_page(), []
    page.on("console", lambda message: strange.append(message.text))
    page.on("pageerror", lambda error: strange.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "blob:")) else strange.append(request.url)
    )
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector("html[data-shown]", state="attached", timeout=120_000)
    return page, strange


def move(page: Any, unit: int, value: float) -> None:
    """Puts a slider somewhere, as a pointer or a key does, and waits until the page has drawn."""
    shown = int(page.get_attribute("html", "data-shown"))
    page.evaluate("""([id, value]) => {
        const slider = document.getElementById(id);
        slider.value = value;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
    }""", [f"unit-{unit}", value])  # fmt: skip
    page.wait_for_selector(f"html[data-shown='{shown + 1}']", state="attached", timeout=60_000)


def press(page: Any, button: str) -> None:
    """Presses a button, and waits until the page has drawn."""
    shown = int(page.get_attribute("html", "data-shown"))
    page.click(button)
    page.wait_for_selector(f"html[data-shown='{shown + 1}']", state="attached", timeout=60_000)


def pixels_of(page: Any) -> np.ndarray:
    """What the page has drawn, (8, 8, 4)."""
    pixels = page.evaluate("""() => {
        const canvas = document.getElementById("image");
        return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
    }""")  # fmt: skip
    shown = np.array(pixels).reshape(8, 8, 4)
    assert (shown[..., 3] == 255).all()
    return shown


@pytest.fixture
def _unexported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares tests that decode nothing the seconds of an export."""
    monkeypatch.setattr(explorer, "onnx_decoder", lambda *_: b"a decoder")


@pytest.mark.usefixtures("runtime")
def test_the_page_decodes_in_a_browser_from_its_folder(
    browser: Any, found: Explored, checkpoint: Path, tmp_path: Path
) -> None:
    """Opened as a file, asking for nothing outside its folder; pixels are those of torch, of several units at once."""
    assert explorer.explore(checkpoint, tmp_path / "page") is None
    page, strange = visit(browser, tmp_path / "page")
    assert page.inner_text("#how") == "Decoded in this page by onnxruntime-web."
    model, z, first, second = vb.load(checkpoint), found.z[2:3].clone(), found.units[0], found.units[1]
    page.click(".start >> nth=2")
    for unit, value in ((first, first.centre + 2 * first.sd), (second, second.centre - second.sd)):
        move(page, unit.number, value)
        z[0, unit.number] = value
    with evaluation_mode(model, torch.device("cpu")):
        wanted = mean_image(model, z[None])[0, 0, 0]
    shown = pixels_of(page)
    np.testing.assert_allclose(shown[..., :3], np.repeat(255 * wanted.numpy()[..., None], 3, -1), atol=0.51)
    page.focus(f"#unit-{first.number}")
    page.keyboard.press("ArrowLeft")
    assert float(page.input_value(f"#unit-{first.number}")) < first.centre + 2 * first.sd
    for width in (1440, 1024, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = [text for text in page.evaluate(TEXTS) if text["contrast"] < 4.5]
    assert not small
    assert not strange


@pytest.mark.slow
@pytest.mark.usefixtures("runtime")
def test_a_conditional_model_is_decoded_with_the_label_that_is_chosen(browser: Any, tmp_path: Path) -> None:
    """At first with that of the image whose code it starts from, again where another image is taken."""
    checkpoint = vb.fit("cvae", "digits", tmp_path / "runs", trainer={"max_epochs": 15}, latent=4)
    assert explorer.explore(checkpoint, tmp_path / "page") is None
    subject = Subject(vb.load(checkpoint), Digits())
    with evaluation_mode(subject.model, subject.device):
        found = explored(subject)
    page, strange = visit(browser, tmp_path / "page")
    assert page.locator(".label").all_inner_texts() == [str(label) for label in range(10)] == [*map(str, found.labels)]
    press(page, ".start >> nth=1")
    own = int(found.model.y[1])
    shown = {}
    for label in (own, (own + 1) % 10):
        press(page, f".label[value='{label}']")
        shown[label] = pixels_of(page)
        with evaluation_mode(subject.model, subject.device):
            given = Conditioned(subject.model.family, torch.tensor([label]))
            wanted = mean_image(given, found.z[1:2][None])[0, 0, 0]
        np.testing.assert_allclose(shown[label][..., 0], 255 * wanted.numpy(), atol=0.51)
    assert np.abs(shown[own] - shown[(own + 1) % 10]).max() > 20
    press(page, ".start >> nth=2")
    assert page.get_attribute(".label[aria-pressed=true]", "value") == str(int(found.model.y[2]))
    assert not [text for text in strange if "willReadFrequently" not in text]  # that is of reading pixels here


@pytest.mark.usefixtures("_unexported")
def test_a_conditional_models_frames_have_the_labels_of_their_images(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a decoder in the page no other can be had, so that none is offered."""
    checkpoint = vb.fit("cvae", "digits", tmp_path / "runs", trainer={"max_epochs": 15}, latent=4)
    monkeypatch.setattr(explorer, "FILES", [replace(file, url=None) for file in explorer.FILES])
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path / "cache"))
    assert "missing" in explorer.explore(checkpoint, tmp_path / "page")
    page, _ = visit(browser, tmp_path / "page")
    assert page.locator(".label").count() == 0


THEIRS = """
import torch
from torch import nn

from vaebench.adapters import of_logits


def build():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * 3))
    decoder = nn.Sequential(nn.Linear(3, 64), nn.Unflatten(-1, (1, 8, 8)))
    return {"encoder": lambda x: encoder(3 * x).chunk(2, -1), "decoder": decoder, "density": of_logits, "latent": 3}
"""


def test_a_model_from_elsewhere_is_explored(
    newcomer: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explorer, "FILES", [])
    (newcomer / "theirs.py").write_text(THEIRS)
    given = ["explore", "--adapter", "theirs.py:build", "--data", "digits", "--data.measure", "binary"]
    assert main([*given, "--out", "page"]) == 0
    assert not capsys.readouterr().err, "its decoder is exported"
    assert "theirs, on digits" in (newcomer / "page" / "index.html").read_text("utf-8")
    run = onnxruntime.InferenceSession(newcomer / "page" / "decoder.onnx")
    program: dict[str, Any] = {}
    exec(THEIRS, program)
    z = torch.randn(5, 3)
    (found,) = run.run(["x"], {"z": z.numpy()})
    np.testing.assert_allclose(found, program["build"]()["decoder"](z).sigmoid().detach(), atol=1e-5)
    for mistake, said in (
        ([], "there is no model: expected"), (["--data=digits", "model.ckpt"], "--data is for a model from elsewhere"),
        (["--adapter=theirs.py:build"], "expected --data"),
        (["--adapter=theirs.py:build", "--data=digits", "model.ckpt"], "there are two models"),
    ):  # fmt: skip
        assert main(["explore", *mistake, "--out", "other"]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.usefixtures("_unexported")
def test_without_the_runtime_the_page_shows_frames(
    browser: Any, found: Explored, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "FILES", [replace(file, url=None) for file in explorer.FILES])
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path / "cache"))
    assert "missing" in explorer.explore(checkpoint, tmp_path / "page")
    page, strange = visit(browser, tmp_path / "page")
    assert page.inner_text("#how").startswith("One unit at a time")
    last = found.units[-1]
    move(page, last.number, last.centre + REACH * last.sd)
    page.locator("#image").screenshot(path=tmp_path / "shown.png")
    with Image.open(tmp_path / "page" / f"unit-{last.number}.png") as sheet:
        frame = sheet.crop((8 * (STOPS - 1), 0, 8 * STOPS, 8)).convert("L")
    np.testing.assert_allclose(np.asarray(frame), 255 * last.frames[-1, 0, 0].numpy(), atol=0.51)
    with Image.open(tmp_path / "shown.png") as shown:
        inside = (
            shown.convert("L").crop((1, 1, shown.width - 1, shown.height - 1)).resize((8, 8), Image.Resampling.NEAREST)
        )
    np.testing.assert_allclose(np.asarray(inside, int), np.asarray(frame, int), atol=2)
    with Image.open(tmp_path / "page" / f"unit-{last.number}.gif") as motion:
        assert motion.n_frames == 2 * STOPS - 2
    assert not strange
