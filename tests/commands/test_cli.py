"""The command line: what users mistype, in one sentence and exit code 2; what they get when they do not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import processes
import pytest
from fake_records import write_fake
from rich.console import Console

from vaebench.cli import main
from vaebench.commands import _tables as tables
from vaebench.display.terminal import progress_bar, wide
from vaebench.errors import UserError
from vaebench.leaderboard import leaderboard
from vaebench.records import read_records, stable
from vaebench.running.benchmark import read_benchmark

ROOT = Path(__file__).parents[2]
VAE = f"--config={ROOT}/configs/family/vae.yaml"
FAST = ["--model.latent=3", "--trainer.max_epochs=2", "--trainer.accelerator=cpu"]


def _fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert len(captured.err.strip().splitlines()) <= 3
    return captured.err


@pytest.mark.parametrize("argv", [["--help"], ["fit", "--help"], ["bench", "--help"], ["evaluate", "--help"],
                                  ["leaderboard", "--help"], ["families", "--help"], ["--version"]])  # fmt: skip
def test_help_teaches_with_an_example_and_does_not_pay_for_torch(argv: list[str]) -> None:
    code = f"import sys, vaebench.cli as c\ntry: c.main({argv})\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False"
    assert argv == ["--version"] or "vaebench " + argv[0].replace("--help", "bench") in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fti"], "unknown command 'fti'; did you mean fit"),
        (["leaderboard", "--htlm", "x"], "unknown option '--htlm'; did you mean --html"),
        (["fit", VAE, "--data=digits", "--model.bta=3"], "unknown key 'bta'"),
        (["fit", VAE, "--data=digits", "--model.latnet=3"], "unknown key 'latnet'; did you mean latent"),
        (["fit", VAE, "--data=digits", "--model.posterior.net.widht=3"], "unknown key 'widht'; did you mean width"),
        (["fit", VAE, "--data=digits", "--model.latent=many"], "'model.latent' cannot be many: expected a whole"),
        (["fit", VAE, "--data=digits", "--model.latent=-1"], "latent is -1: expected at least 1; raise model.latent"),
        (["fit", VAE, "--data=digits", "--model.lr=-1"], "lr is -1.0: expected at least 0"),
        (["fit", VAE, "--data=digits", "--model.clip=no"], "'model.clip' cannot be no: expected a number or null"),
        (["fit", VAE, "--data=digits", "--seed_everything=abc"], "'seed_everything' cannot be abc: expected"),
        (["fit", VAE, "--data=digits", "--model.likelihood.net=MLP"], "'likelihood' has no class yet to which 'net'"),
        (["fit", "--data=digits", "--model.latent=4", "--config=family/vae"], "--model.latent stands before anything"),
        (["fit", VAE, "--data=digits", "--trainer.accelerator=tpu"], "there is no such trainer: "),
        (["fit", VAE, "--data=digits", f"--config={sys.executable}"], "is no text: expected YAML"),
        (["verify", "a", "b"], "'b' is one argument too many"),
        (["leaderboard", "results", "--html", "/dev/null/page.html"], "'/dev/null/page_files' cannot be used ("),
        (["fit", VAE, "--data=digits", "--trainer.max_epoch=3"], "did you mean trainer.max_epochs"),
        (["fit", VAE, "--data=digts"], "unknown data set 'digts'; did you mean digits"),
        (["fit", "--model=beta_vea", "--data=digits"], "unknown family 'beta_vea'; did you mean beta_vae"),
        (["fit", "--model=vaebench.families.vea.VEA", "--data=digits"], "unknown family 'vea'; did you mean vae"),
        (["fit", f"--config={ROOT}/configs/family/vea.yaml"], "unknown configuration file"),
        (["fit", "--data=digits"], "nothing says which model to use"),
        (["fit", VAE, "--data=digits", "--model.likelihood=Gausian"], "did you mean Gaussian"),
        (["fit", VAE, "--data=digits", "--model.likelihood=Gaussian"], "Gaussian is no likelihood for 'binary'"),
        (["fit", VAE, "--data=digits", "--data.measure=grey"], "digits cannot have the measure 'grey'"),
        (["evaluate", "nowhere/model.ckpt"], "unknown checkpoint 'nowhere/model.ckpt'"),
        (["evaluate", "x.ckpt", "--k", "many"], "invalid int value: 'many'"),
        (["evaluate"], "there is no model: expected a model.ckpt, or --adapter"),
        (["bench", "configs/benchmark/digts.yaml"], "unknown benchmark file"),
        (["leaderboard", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_nearest_names(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert message in _fails(capsys, *argv)


def test_the_settings_of_a_family_or_data_set_are_listed_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: `--help-all` lists no family's settings, and `--model.help` knew class paths alone."""
    for flag, name, setting in (("--model.help", "beta_vae", "--model.beta"), ("--data.help", "digits", "batch_size")):
        with pytest.raises(SystemExit) as end:
            main(["fit", flag, name])
        assert end.value.code == 0
        assert setting in capsys.readouterr().out


def test_a_reference_is_printed_whole_however_narrow_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Console(width=60, file=StringIO())
    monkeypatch.setattr(tables, "wide", lambda: narrow)
    assert main(["families"]) == 0
    rows = [line.split("│") for line in narrow.file.getvalue().splitlines() if "│" in line]
    assert "https://openreview.net/forum?id=Sy2fzU9gl" in "".join(row[3].strip() for row in rows)


def test_a_precision_without_a_kernel_is_an_error_and_no_posterior_without_a_density(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In bf16 torch cannot solve a triangular system: validation measured log p(x|z) instead of the bound."""
    few = ["--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1", f"--out={tmp_path}"]
    half = ["--model.posterior=FullGaussian", "--trainer.precision=bf16-mixed"]
    error = _fails(capsys, "fit", "--data=digits", "--model=vae", *FAST, *half, *few)
    assert "triangular_solve" in error
    assert "BFloat16" in error
    assert "--trainer.precision 32-true" in error
    assert not list(tmp_path.rglob("model.ckpt"))


def test_a_run_that_cannot_keep_anything_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", VAE, "--data=digits", *FAST, f"--out={tmp_path}"]
    assert "trainer.max_epochs is 0: expected at least 1" in _fails(capsys, *fit, "--trainer.max_epochs=0")
    assert main(fit) == 0
    (checkpoint,) = tmp_path.glob("*/model.ckpt")
    checkpoint.write_bytes(b"")
    capsys.readouterr()
    assert "(or it is damaged)" in _fails(capsys, *fit)


@pytest.mark.parametrize("command", ["fit", "evaluate", "bench", "leaderboard"])
def test_a_full_disk_is_named_in_a_sentence_that_blames_no_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    file, results = _benchmark(tmp_path), f"--results={tmp_path}/r"
    fit = ["fit", VAE, "--data=digits", *FAST, f"--out={tmp_path}/runs"]
    page = tmp_path / "page.html"
    if command == "evaluate":
        assert main(fit) == 0
    if command == "leaderboard":
        write_fake(tmp_path / "r" / "run", np.random.default_rng(0))
    (checkpoint,) = (tmp_path / "runs").glob("*/model.ckpt") if command == "evaluate" else (tmp_path,)
    words = {
        "fit": fit,
        "evaluate": ["evaluate", str(checkpoint), "--k=4", results],
        "bench": ["bench", file, results, f"--work={tmp_path}/w"],
        "leaderboard": ["leaderboard", str(tmp_path / "r"), f"--html={page}"],
    }

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    capsys.readouterr()
    monkeypatch.setattr(os, "fsync", full)
    sentence = _fails(capsys, *words[command])
    assert "there is no room for '" in sentence
    assert f"'{checkpoint}'" not in sentence
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")], "nothing is left lying about"
    monkeypatch.undo()
    assert main(words[command]) == 0


def test_an_interrupted_sweep_names_the_flag_that_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaebench.sweep import driver

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "run_sweep", interrupted)
    assert main(["sweep", "sweeps/beta.yaml"]) == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err
    assert main(["sweep", "sweeps/beta.yaml", "--resume"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_cell_of_a_notebook_gets_no_bars_that_are_drawn_over_and_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: Jupyter sets FORCE_COLOR for the commands of a cell, and 64 kB of a sweep's live table filled it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar("training") as bar:
        bar.advance(0.5)
    wide().print("[bold]a table[/bold]")
    assert capsys.readouterr() == ("a table\n", "")


def test_a_misspelt_key_in_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "own.yaml"
    for text, message in {
        "trainer: {max_epoch: 3}": "did you mean trainer.max_epochs",
        "modle: {class_path: vaebench.families.vae.VAE}": "did you mean model",
        "model: {class_path: vaebench.families.vae.VAE, init_args: {sample: 3}}": "did you mean samples",
        "model: [": "own.yaml' is not YAML: expected the node content, but found '<stream end>' in line 1",
    }.items():
        config.write_text(text)
        assert message in _fails(capsys, "fit", VAE, "--data=digits", f"--config={config}")


def test_families_and_data_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["families"]) == 0
    families = capsys.readouterr().out
    assert main(["datasets"]) == 0
    datasets = capsys.readouterr().out
    assert all(name in families for name in ("vae", "beta_vae", "iwae", "https://arxiv.org/abs/1509.00519"))
    assert all(name in datasets for name in ("digits", "binarized_mnist", "omniglot", "cifar10"))


def test_fit_then_evaluate_then_leaderboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", VAE, "--data=digits", *FAST, f"--out={tmp_path}/runs"]
    assert main(fit) == 0
    checkpoint = Path(capsys.readouterr().out.splitlines()[0])
    config = checkpoint.with_name("config.yaml").read_text()
    assert "latent: 3" in config
    assert "max_epochs: 2" in config
    assert main(fit) == 0
    assert "already" in capsys.readouterr().out
    evaluate = ["evaluate", str(checkpoint), "--k", "20", "--limit", "50", f"--results={tmp_path}/results"]
    assert main(evaluate) == 0
    out = capsys.readouterr().out
    assert "log_likelihood" in out
    assert "posterior collapse:" in out
    (record,) = read_records(tmp_path / "results")
    assert record.protocol["k"] == 20
    assert record.metrics["log_likelihood"]["n"] == 50
    assert str(tmp_path) not in json.dumps(record.config)
    page = tmp_path / "page.html"
    assert main(["leaderboard", f"{tmp_path}/results", "--html", str(page)]) == 0
    assert "vae" in capsys.readouterr().out
    assert "<html" in page.read_text()[:2000]
    assert "nearest" not in _fails(capsys, "leaderboard", f"{tmp_path}/results", "--metric", "ebo")


def test_the_saved_configuration_repeats_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", VAE, "--data=digits", *FAST, f"--out={tmp_path}/a"])
    first = Path(capsys.readouterr().out.splitlines()[0])
    main(["fit", f"--config={first.with_name('config.yaml')}", f"--out={tmp_path}/b"])
    second = Path(capsys.readouterr().out.splitlines()[0])
    assert first.parent.name == second.parent.name, "the same run by its identity"
    import vaebench as vb
    from vaebench.running.recording import weights_hash

    assert weights_hash(vb.load(first)) == weights_hash(vb.load(second))


def test_a_variant_may_have_seeds_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("seeds: [0, 1, 2]\nruns: {cheap: {}, costly: {seeds: [5]}}")
    runs = read_benchmark(tmp_path / "b.yaml").runs
    assert [(run.variant, run.seed, run.args) for run in runs] == [
        *(("cheap", seed, [f"--seed_everything={seed}"]) for seed in range(3)), ("costly", 5, ["--seed_everything=5"]),
    ]  # fmt: skip


BENCHMARK = """
benchmark: tiny
seeds: [0, 1]
protocol: {{k: 10, limit: 40}}
configs: [{root}/configs/data/digits.yaml]
overrides: {{trainer.max_epochs: 2, model.latent: 3, trainer.accelerator: cpu}}
runs:
  vae: {{configs: [{root}/configs/family/vae.yaml]}}
  iwae: {{configs: [{root}/configs/family/iwae.yaml], overrides: {{model.k: 2}}}}
"""


def _benchmark(folder: Path, text: str = BENCHMARK) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(text.format(root=ROOT))
    return str(folder / "tiny.yaml")


def test_bench_never_repeats_a_finished_run_and_repeats_to_the_same_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _benchmark(tmp_path)
    for folder in ("first", "second"):
        assert main(["bench", file, f"--results={tmp_path}/{folder}", f"--work={tmp_path}/work"]) == 0
    assert "finished before" not in capsys.readouterr().out
    records = {folder: read_records(tmp_path / folder) for folder in ("first", "second")}
    assert [(r.variant, r.seed) for r in records["first"]] == [("iwae", 0), ("iwae", 1), ("vae", 0), ("vae", 1)]
    for a, b in zip(*records.values(), strict=True):
        assert stable(a) == stable(b), "the same seed gives the same record but for times"
        for name, values in a.per_image().items():
            assert (values == b.per_image()[name]).all()
    first, second = (re.sub(r"[^|]*\|$", "", leaderboard(tmp_path / folder), flags=re.MULTILINE) for folder in records)
    assert first == second, "the same leaderboard but for the last column, the seconds of training"
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "first").rglob("*")}
    assert main(["bench", file, f"--results={tmp_path}/first", f"--work={tmp_path}/work"]) == 0
    assert capsys.readouterr().out.count("finished before") == 4
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "first").rglob("*")}


def test_a_damaged_record_is_no_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _benchmark(tmp_path, BENCHMARK.replace("[0, 1]", "[0]"))
    command = ["bench", file, f"--results={tmp_path}/r", f"--work={tmp_path}/w"]
    assert main(command) == 0
    damaged = next((tmp_path / "r").rglob("record.json"))
    damaged.write_text(damaged.read_text().replace('"seed": 0', '"seed": 7', 1))
    capsys.readouterr()
    assert main(command) == 2
    assert "its digest does not match; restore it or run it again" in capsys.readouterr().err


def test_settings_of_a_benchmark_are_written_as_yaml_has_them(tmp_path: Path) -> None:
    """Defect: null became the text None."""
    (tmp_path / "b.yaml").write_text("overrides: {model.clip: null, a.b: true}\nruns: {v: {overrides: {c: 0.5}}}")
    (run,) = read_benchmark(tmp_path / "b.yaml").runs
    assert run.args == ["--c=0.5", "--model.clip=null", "--a.b=true", "--seed_everything=0"]


def test_a_killed_bench_loses_nothing(tmp_path: Path) -> None:
    """SIGKILL after the first record; the same command then finishes with every record once."""
    file = _benchmark(tmp_path)
    words = ["bench", file, f"--results={tmp_path}/r", f"--work={tmp_path}/w"]
    process = processes.command(*words)
    finished = partial((tmp_path / "r").glob, "tiny/[!.]*/record.json")  # none of a folder that is being written
    processes.wait(lambda: list(finished()), process)
    process.kill()
    process.join()
    kept = {p: p.read_bytes() for p in finished()}
    assert 1 <= len(kept) < 4
    assert main(list(map(str, words))) == 0
    assert len(read_records(tmp_path / "r")) == 4
    assert all(p.read_bytes() == content for p, content in kept.items())
    assert not [p for p in (tmp_path / "w").rglob("*") if p.is_file()], "no scratch is left"


def test_ctrl_c_exits_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vaebench", "fit", VAE, "--data=digits", *FAST, "--trainer.max_epochs=4000",
               f"--out={tmp_path}"]  # fmt: skip
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=heard
    )
    while not list(tmp_path.rglob("last.ckpt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert error.strip() == "vaebench: interrupted; the same command goes on where it stopped"
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [0]\nruns: {}", "unknown key 'seed'; did you mean seeds"),
        ("seeds: zero\nruns: {a: {}}", "expected a list of whole numbers"),
        ("seeds: [1, 1]\nruns: {a: {}}", "expected each once"),
        ("runs: {a: {seeds: [0, 0]}}", "expected each once"),
        ("seeds: [0]", "has no runs"),
        ("runs: {a: {config: []}}", "unknown key 'config'; did you mean configs"),
        ("runs: {a: {configs: [nowhere.yaml]}}", "unknown configuration file 'nowhere.yaml'"),
        ("protocol: {K: 5}\nruns: {a: {}}", "unknown key 'K'; did you mean k"),
        ("runs: [", "is not YAML"),
        ("runs: {0.5: {}}", "has a variant 0.5: expected a text; put its name in quotes"),
        ("runs:\n  a: {}\n  a: {}", "line 3: 'a' stands here for the second time"),
        ("overrides: [a, b]\nruns: {a: {}}", r"has overrides \['a', 'b'\]: expected a table"),
        ("configs: vae.yaml\nruns: {a: {}}", "has configs 'vae.yaml': expected a list"),
        ("- 1", "holds list"),
    ],
)
def test_a_bad_benchmark_file_is_explained_before_anything_starts(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_benchmark(tmp_path / "b.yaml")


def test_every_run_of_a_benchmark_is_checked_before_the_first_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _benchmark(tmp_path, BENCHMARK.replace("model.k: 2", "model.kk: 2"))
    assert "unknown key 'kk'" in _fails(capsys, "bench", file, f"--results={tmp_path}/r", f"--work={tmp_path}/w")
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "benchmark").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_benchmark_parses(path: Path) -> None:
    from vaebench.training.experiment import experiment

    runs = read_benchmark(path).runs
    assert runs
    for run in {run.variant: run for run in runs}.values():  # its seeds differ in one argument
        assert experiment(run.args).seed == run.seed
