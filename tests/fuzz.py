"""What the fuzz is made of: hostile values, files with something wrong in them, and the law that every command keeps.

A command succeeds, or answers in one sentence on stderr: exit code 2, or 3 where training diverged. It never ends in a
traceback, in the parser's own report, or not at all.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import gc
import hashlib
import io
import math
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from lightning import Trainer

from vaebench.cli import main
from vaebench.configuration.discovery import families
from vaebench.data.digits import Digits

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
CPU_SECONDS = 60  # of user time, after which a case hangs; the slowest take four
FEW = 50  # cases, up to which they are always the same
LONGEST = 1000  # letters of a sentence; paths and lists of names are in it
# What no sentence of the suite holds: words of the parser's reports, and of Python's own errors.
FOREIGN = (
    "Parser key", "Union subtypes", "NestedArg", "Problem with given class_path", "Given value", "Namespace(",
    "jsonargparse", "<class '", "Not a valid subclass", "Traceback", "typehint", "unsupported operand",
    "object has no attribute", "object is not", "unhashable type", "positional argument",
)  # fmt: skip

families()  # imported before the first case is made


# The law -----------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """How a command ended.

    Attributes:
        code: its exit code; None where an exception left it.
        out, err: what it printed.
        trace: the traceback, or ''.
    """

    code: int | None
    out: str
    err: str
    trace: str

    @property
    def kind(self) -> str:
        """'success', 'refusal', 'traceback', 'hang' or 'raw': a refusal that is not one sentence of the suite's."""
        if self.trace:
            return "hang" if "TimeoutError: a fuzzed command" in self.trace else "traceback"
        if self.code == 0:
            return "success"
        sentence = self.err.strip()
        sound = (
            (self.code in (2, 3) or (self.code == 1 and sentence.startswith("vaebench: different: ")))  # of verify
            and sentence.startswith("vaebench: ")
            and "\n" not in sentence
            and len(sentence) < LONGEST
            and not any(words in sentence for words in FOREIGN)
        )
        return "refusal" if sound else "raw"


def run(*argv: str) -> Outcome:
    """Runs one command in this process; what it leaves of torch's global settings is put back."""
    out, err, trace, code = io.StringIO(), io.StringIO(), "", None
    before, interrupt = signal.signal(signal.SIGVTALRM, _hangs), signal.getsignal(signal.SIGINT)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = main(list(argv))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except Exception:
        trace = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        signal.signal(signal.SIGINT, interrupt)
        torch.use_deterministic_algorithms(False)
        torch.autograd.set_detect_anomaly(False)
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)
    return Outcome(code, out.getvalue(), err.getvalue(), trace)


def _hangs(*_: object) -> None:
    raise TimeoutError(f"a fuzzed command took {CPU_SECONDS} seconds of CPU")


class Content(bytes):
    """The content of a file, of which a report of the fuzz says no more than the length."""

    def __repr__(self) -> str:
        return f"<{len(self):,} bytes, SHA-256 {hashlib.sha256(self).hexdigest()[:8]}>"


def cases(few: int, many: int) -> pytest.MarkDecorator:
    """Runs a test with `few` cases, always the same, and with `many` new ones among the slow tests of a nightly run."""
    nightly = pytest.param(many, marks=[pytest.mark.slow, pytest.mark.timeout(3600)], id="nightly")
    return pytest.mark.parametrize("count", [pytest.param(few, id="few"), nightly])


def obeys(strategy: st.SearchStrategy[Any], count: int, command: Callable[[Any, Path], Outcome], *known: Any) -> None:
    """Runs a command on what a strategy makes, each in an empty folder, and fails where one breaks the law.

    Args:
        strategy: makes the cases.
        count: number of cases; a test with up to `FEW` of them repeats the same ones.
        command: runs a case in a folder, which is the working directory.
        known: cases that broke the law once, which are always tried.

    Raises:
        AssertionError: a case ended in a traceback, in the parser's report, or hung.
    """
    kinds: Counter[str] = Counter()

    def law(case: Any) -> None:
        with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
            outcome = command(case, Path(name))
        gc.freeze()  # what the libraries hold for good, so that no case looks through it
        kinds[outcome.kind] += 1
        event(outcome.kind)
        assert outcome.kind in ("success", "refusal"), f"{outcome.kind}: {outcome.trace}{outcome.err}"

    for case in known:
        law = example(case)(law)
    budget = settings(max_examples=count, derandomize=count <= FEW, deadline=None, database=None, print_blob=True,
                      suppress_health_check=list(HealthCheck))  # fmt: skip
    try:
        budget(given(strategy)(law))()
    finally:
        print(f"{sum(kinds.values())} cases: {dict(kinds)}")


# Hostile values ----------------------------------------------------------------------------------------------------

CLASSES = [
    "vaebench.posteriors.DiagonalGaussian", "vaebench.posteriors.gaussian.FullGaussian", "vaebench.posteriors.Delta",
    "vaebench.priors.StandardNormal", "vaebench.priors.vamp.VampPrior", "vaebench.likelihoods.Bernoulli",
    "vaebench.likelihoods.Gaussian", "vaebench.networks.MLP", "vaebench.schedules.Linear", "vaebench.families.vae.VAE",
    "vaebench.data.digits.Digits", "vaebench.core.Family", "vaebench.data.base.ImageData", "vaebench.nowhere.Nothing",
    "vaebench", "vaebench.", ".", "torch.nn.Linear", "collections.OrderedDict", "math.sqrt", "Gaussian", "MLP",
]  # fmt: skip
NUMBERS: list[Any] = [
    -1, 0, 1, 2, 3, 0.5, -0.5, 1e-30, 1e30, math.inf, -math.inf, math.nan, 2**31, 2**32, 2**64, 10**30,
]  # fmt: skip
SCALARS: list[Any] = [
    *NUMBERS, None, True, False, "", " ", "~", "-", "--", "x", "2", "0.5", "1e3", "1e400", "nan", "null", "true", "yes",
    "[", "{}", "{", "a: b", "%s{0}", "é\u2603", "a/b", "../a", "/", "\t", "word " * 40, b"bytes",
    datetime.date(2026, 11, 30), datetime.datetime(2026, 11, 30, 12), *CLASSES,
]  # fmt: skip
TABLES: list[Any] = [
    [], [1], [1, 2], [-1, 0], ["a", None], [[1]], [{}], {}, {"a": 1}, {1: 2}, {None: None}, {True: [1]}, {"": ""},
    {"class_path": 3}, {"class_path": None}, {"class_path": []}, {"init_args": {}}, {"init_args": 3}, {"name": "x"},
    {datetime.date(2026, 11, 30): 1},
]  # fmt: skip
YAML = [
    "!!python/name:os.getcwd", "&a [*a]", "*a", "0x10", "0o7", "012", "1_000", "12:30:00", "2026-11-30", "2026-13-45",
    "<<: 1", "? a", "- 1", "a: 1", "@a", "`", "|", "!!binary x", "!!set {a, b}", "!!timestamp x", "{a: 1, a: 2}",
    "&a [1, &b [*a, *a], &c [*b, *b]]", "!!int x", "=", "--- a", "[" * 1500, "\x07",
]  # fmt: skip
JUNK = [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\n", b": ", b"[", b"\t"]


def _parts() -> list[Any]:
    """Parts of a model as a configuration names them, most with something wrong."""
    arguments: list[Any] = [None, [], 3, "x", {"width": -1}, {"net": None}, {"net": {"class_path": "x"}}, {"zzz": 1}]
    return [{"class_path": name, "init_args": own} for name in CLASSES[:9] for own in arguments]


def _text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=9999).removesuffix("\n...\n").strip()


PLAIN = [value for value in SCALARS if isinstance(value, str)]
VALUES = st.one_of(*map(st.sampled_from, (NUMBERS, SCALARS, TABLES, _parts()))).map(copy.deepcopy)
TEXTS = st.sampled_from([_text(value) for value in NUMBERS]) | st.sampled_from(
    [*(_text(value) for value in (*SCALARS, *TABLES, *_parts())), *PLAIN, *YAML]
)
NAMES = st.sampled_from(["zzz", "", "1", "a.b", "init_args", "class_path", "config", "model", "__class__", "é"])


def _places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to every value of a tree of tables and lists."""
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from _places(value, (*at, key))


@st.composite
def broken(draw: st.DrawFn, tree: Any, most: int = 2) -> Any:
    """A copy of a tree with one to `most` of its places replaced, removed, renamed, wrapped or added to."""
    whole = {"": copy.deepcopy(tree)}
    for _ in range(draw(st.integers(1, most))):
        place = ("", *draw(st.sampled_from(list(_places(whole[""])))))
        parent: Any = whole
        for key in place[:-1]:
            parent = parent[key]
        key, value = place[-1], parent[place[-1]]
        change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "wrap", "text", "add"]))
        if change == "remove" and len(place) > 1:
            del parent[key]
        elif change == "rename" and isinstance(parent, dict) and len(place) > 1:
            parent[draw(NAMES)] = parent.pop(key)
        elif change == "wrap":
            parent[key] = draw(st.sampled_from([[value], {"a": value}, [value, value]]))
        elif change == "text":
            parent[key] = str(value)
        elif change == "add" and isinstance(value, dict):
            value[draw(NAMES)] = draw(VALUES)
        else:
            parent[key] = draw(VALUES)
    return whole[""]


@st.composite
def torn(draw: st.DrawFn, content: bytes) -> bytes:
    """A file's bytes cut short, repeated, emptied, or with some of them overwritten, removed or added."""
    at = draw(st.integers(0, min(len(content), 64)) | st.integers(0, len(content)))  # headers are short
    end = min(len(content), at + draw(st.sampled_from([1, 2, 4, 64])))
    other = draw(st.one_of(st.binary(max_size=8), st.sampled_from(JUNK)))
    before, after = content[:at], content[end:]
    wrong = [before, content[at:], before + other + after, before + after, before + other + content[at:], content * 2]
    return Content(draw(st.sampled_from([*wrong, other, b""])))


@st.composite
def yaml_file(draw: st.DrawFn, tree: Any, most: int = 2) -> bytes:
    """The bytes of a YAML file that holds `tree` with something wrong in its content, or, more rarely, in its text."""
    if draw(st.integers(0, 3)):
        return yaml.safe_dump(draw(broken(tree, most)), sort_keys=False, allow_unicode=True).encode()
    text = yaml.safe_dump(tree, sort_keys=False)
    if draw(st.booleans()):
        return draw(torn(text.encode()))
    lines = text.splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    head, colon, _ = lines[at].partition(": ")
    lines[at] = f"{head}{colon}{draw(TEXTS)}"
    return "\n".join(lines).encode()


# Fit ---------------------------------------------------------------------------------------------------------------

SLOW = {"top_down_vae_cifar10", "pixel_vae", "aggressive_vae", "factor_vae"}  # a second and more for two steps
FAMILIES = sorted(path for path in (CONFIGS / "family").glob("*.yaml") if path.stem not in SLOW)
SECTIONS = ["seed_everything", "model", "data", "config", "zzz", ""]
BUDGET = ["--trainer.max_epochs=1", "--trainer.max_steps=2"]
PROCESSES = {"devices", "num_nodes"}  # what starts or waits for other processes


@cache
def _keys(config: Path) -> list[str]:
    """Settings that `vaebench fit` has for a configuration of a family, as they are typed."""
    model = yaml.safe_load(config.read_text())["model"]
    module, _, name = model["class_path"].rpartition(".")
    own = [f"model.{key}" for key in signature(getattr(import_module(module), name)).parameters if key != "parts"]
    places = [place for place in _places(model.get("init_args", {})) if place]
    inner = [".".join(("model", *place)) for place in places if all(isinstance(key, str) for key in place)]
    trainer = [f"trainer.{key}" for key in signature(Trainer.__init__).parameters if key not in {"self", *PROCESSES}]
    data = [f"data.{key}" for key in signature(Digits).parameters]
    return own + inner + [key.replace("init_args.", "") for key in inner] + trainer + data


@st.composite
def fits(draw: st.DrawFn) -> tuple[list[str], bytes]:
    """Arguments of `vaebench fit`, and the content of own.yaml, which they may name; something is wrong in either."""
    config = draw(st.sampled_from(FAMILIES))
    if draw(st.booleans()):
        family, data = (yaml.safe_load(path.read_text()) for path in (config, CONFIGS / "data" / "digits.yaml"))
        trainer = {"max_steps": 2, "max_epochs": 1, "accelerator": "cpu"}
        text = draw(yaml_file({**family, **data, "trainer": trainer, "seed_everything": 0}))
        return ["--config=own.yaml", draw(st.sampled_from(BUDGET))], text
    args = [f"--config={config}", "--data=digits", *BUDGET, "--trainer.accelerator=cpu"]
    keys = st.sampled_from(_keys(config)) | st.sampled_from(SECTIONS)
    args += [f"--{draw(keys)}={draw(TEXTS)}" for _ in range(draw(st.integers(1, 2)))]
    return [*args, draw(st.sampled_from(BUDGET))], b""


def fit(case: tuple[list[str], bytes], folder: Path) -> Outcome:
    """Runs `vaebench fit` on what `fits` makes."""
    args, text = case
    (folder / "own.yaml").write_bytes(text)
    return run("fit", *args, f"--out={folder}/runs")
