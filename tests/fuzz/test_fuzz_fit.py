"""Whatever `vaebench fit` is given, it trains two steps or says in one sentence why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import BUDGET, CONFIGS, FAMILIES, cases, fit, fits, obeys, run

VAE = f"--config={CONFIGS}/family/vae.yaml"
START = [VAE, "--data=digits", *BUDGET, "--trainer.accelerator=cpu"]


@cases(few=15, many=500)
def test_fit_trains_or_says_why_not(count: int) -> None:
    obeys(fits(), count, fit)


@pytest.mark.parametrize("config", FAMILIES[:1], ids=lambda path: path.stem)
def test_what_the_fuzz_starts_from_trains(config: Path, tmp_path: Path) -> None:
    outcome = run("fit", f"--config={config}", "--data=digits", *BUDGET, f"--out={tmp_path}")
    assert outcome.kind == "success", outcome


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--model.samples=null", "'model.samples' cannot be null: expected a value"),
        ("--model.samples=-1", "samples is -1: expected"),
        ("--model.samples=0", "samples is 0: expected"),
        ("--trainer.devices=-1", "there is no such trainer: "),
        ("--trainer.max_time={a: 1}", "there is no such trainer: "),
        ("--model.lr=null", "'model.lr' cannot be null"),
        ("--model.posterior.net.width=null", "'model.posterior.net.width' cannot be None: expected a whole number"),
        ("--trainer.max_steps=null", "'trainer.max_steps' cannot be None: expected a whole number"),
        ("--model.lr=.inf", "lr is inf: expected a finite number; mend model.lr"),
        ("--model.clip=.nan", "clip is nan: expected a finite number; mend model.clip"),
        ("--model.posterior.net.width=[2]", "'model.posterior.net.width' cannot be [2]: expected a whole number"),
        ("--model.posterior.net.activation=x", "expected one of tanh, relu"),
        ("--model.latent=2026-11-30", "'model.latent' cannot be 2026-11-30: expected a whole number"),
        ("--data.measure=\x1b[31m", r"'data.measure' cannot be '\x1b[31m': expected text that can be printed"),
        ("--data=math.sqrt", "unknown data set 'math'"),
        ("--model.prior=torch.nn.Linear", "unknown prior 'torch.nn.Linear'; did you mean"),
        ("--model.posterior.net={class_path: {a: b}}", "'model.posterior.net' cannot be {'class_path': {'a'"),
        ("--model.likelihood={class_path: Bernoulli, init_args: 3}", "'model.likelihood' cannot be {'class_path"),
        ("--trainer=x", "'trainer' cannot be x: expected a table of settings"),
        ("--config=[a]", "unknown configuration file '[a]'"),
        ("--config=/", "unknown configuration file '/'"),
        ("--config=!!timestamp x", "holds no YAML that can be read"),
        ("--config=--", "holds no YAML that can be read"),
        ("trainer: [{max_steps: 2}]", "'trainer' is no table"),
        ("trainer: 1.0e-30", "'trainer' is no table"),
        ("- 1", "'own.yaml' is no table: expected keys such as data, model"),
        ("model: {init_args: {lr: 2026-11-30}}", "line 1: 2026-11-30 is a date: expected a text or a number"),
        ("seed_everything: 2026-13-45", "is not YAML: a date, or a value with a tag, is none"),
        ("trainer: &a [*a]", "nested too deeply, or holds itself by an alias"),
        ("trainer: {max_steps: 2}\ntrainer: {}", "line 2: 'trainer' stands here for the second time"),
        ("a: &a [1, 1, 1, 1]\n" + "".join(f"{k}: &{k} [{', '.join([f'*{j}'] * 9)}]\n"
         for j, k in zip("abcdefg", "bcdefgh", strict=True)), "holds more than 100,000 values, aliases counted"),
        ("--model.posterior.net.depth=1000000000000", " needs more memory than there is: expected a smaller model"),
    ],
)  # fmt: skip
def test_what_broke_fit_is_answered_in_a_sentence(
    given: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, setting = ("", given) if given.startswith("--") else (given, "--config=own.yaml")
    outcome = fit(([*START, setting], text.encode()), tmp_path)
    assert outcome.kind == "refusal", outcome
    assert message in outcome.err


def test_a_defect_of_a_constructor_is_no_mistake_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise AttributeError("a defect")

    monkeypatch.setattr("vaebench.core.family.require_posterior", defect)
    assert run("fit", *START, f"--out={tmp_path}").kind == "traceback"
