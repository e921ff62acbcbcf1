"""Result cards with their weights on the Hugging Face Hub, through `huggingface_hub` (extra `hub`).

A repository of models holds one card, file by file, beside

    README.md            the Hub's model card, with the metrics in its metadata (`model-index`)
    model.safetensors    the weights of model.ckpt for other programs, which no command here reads

What comes from there is a stranger's: of its files those are taken that its card.json lists, under plain names, and
the card goes through the same gate as one that was handed over (`vaebench.reproduction.cards`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vaebench._version import __version__
from vaebench.errors import UserError, extra, printable
from vaebench.files import is_plain, read_file, take_file
from vaebench.records import CHECKPOINT, LONGEST, RECORD
from vaebench.records.claims import CARD
from vaebench.records.find import find_record
from vaebench.reproduction.cards import MOST_FILES, Card, card_text, export_card, import_card, most_bytes, read_card
from vaebench.training.models import read_checkpoint

if TYPE_CHECKING:
    from huggingface_hub import HfApi

README, WEIGHTS = "README.md", "model.safetensors"
TASK = "unconditional-image-generation"  # of the Hub's list, the one that a VAE does


def push(name: str, repository: str, results: Path, private: bool = False) -> str:
    """Puts a card with its weights into a repository of models, which is made where there is none.

    Args:
        name: a card's folder, or a record as in `find_record`, whose card is made.
        repository: OWNER/NAME.
        results: the folder of all records.
        private: make a new repository private.

    Returns:
        The address of the commit.

    Raises:
        UserError: `huggingface_hub` is not installed, there is no such card or record, or the Hub declines.
    """
    _require_name(repository)
    with _hub(f"`push` to '{repository}'") as hub, TemporaryDirectory() as scratch:
        card = _card(name, results, Path(scratch))
        made = _beside(card, repository, Path(scratch))
        hub.create_repo(repository, private=private or None, exist_ok=True)
        return _commit(hub, repository, {**made, **{file: card.folder / file for file in (CARD, *card.files)}}, card)


def pull(repository: str, results: Path, root: str | None = None, revision: str | None = None) -> tuple[Path, bool]:
    """Imports the card of a repository into a folder of records, as a claim.

    Args:
        repository: OWNER/NAME.
        results: the folder of all records.
        root: as in `import_card`.
        revision: a branch, tag or commit; default: the newest.

    Returns:
        The record's folder, and whether it was already imported.

    Raises:
        UserError: `huggingface_hub` is not installed, there is no such repository, it holds no card, or as in
            `import_card`.
    """
    _require_name(repository)
    with _hub(f"`pull` of '{repository}'") as hub, TemporaryDirectory() as scratch:
        folder = Path(scratch, "card")
        folder.mkdir()
        info = hub.model_info(repository, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size for file in info.siblings or ()}
        if CARD not in sizes:
            raise UserError(
                f"'{repository}' has no {CARD}: expected the files of a card, as `vaebench push` puts them there"
            )
        _fetch(hub, repository, str(info.sha), CARD, sizes, folder, Path(scratch))
        for file in _listed(folder, repository):
            if file in sizes:
                _fetch(hub, repository, str(info.sha), file, sizes, folder, Path(scratch))
        return import_card(folder, results, root)


def _require_name(repository: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", repository, re.ASCII):
        raise UserError(
            f"'{printable(repository)}' is no repository of the Hub: expected OWNER/NAME, such as me/digits-vae"
        )


@contextmanager
def _hub(what: str) -> Iterator[HfApi]:
    """The Hub, whose address is that of HF_ENDPOINT; its errors are UserErrors of one sentence."""
    with extra("hub", what):
        import safetensors.torch  # noqa: F401
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError, LocalTokenNotFoundError
        from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    silent = not are_progress_bars_disabled() and not sys.stderr.isatty()
    if silent:
        disable_progress_bars()
    try:
        yield HfApi(library_name="vaebench", library_version=__version__)
    except UserError:
        raise
    except LocalTokenNotFoundError:
        raise UserError(f"{what} needs a token: `hf auth login` stores one, or set HF_TOKEN") from None
    except HfHubHTTPError as error:
        raise UserError(f"{what}: {_declined(error)}") from None
    except (HTTPError, LocalEntryNotFoundError) as error:
        raise UserError(
            f"{what}: the Hub cannot be reached ({type(error).__name__}); expected a network, or its address in "
            "HF_ENDPOINT"
        ) from None
    except RuntimeError as error:  # of a thread that uploads
        if not isinstance(error.__cause__, HTTPError):
            raise
        raise UserError(
            f"{what}: {str(error).rstrip('.')} ({type(error.__cause__).__name__}); try again later"
        ) from None
    finally:
        if silent:
            enable_progress_bars()


def _declined(error: Any) -> str:
    """Why the Hub declined, in a sentence."""
    status = error.response.status_code
    if status in (401, 403):
        return (
            f"the Hub declines ({status}): it is private or does not exist, or the token may not do this; "
            "`hf auth login` stores one, or set HF_TOKEN"
        )
    if status == 404:
        return "the Hub has no such repository or revision; expected OWNER/NAME of a repository of models"
    said = " ".join(printable(error.server_message or "").split())[:200]
    return f"the Hub declines ({status}{f': {said}' if said else ''}); try again later, or mend what it names"


# What is put there -----------------------------------------------------------------------------------------------


def _card(name: str, results: Path, scratch: Path) -> Card:
    """The card in a folder, or a new one of a record with its checkpoint where it has one."""
    path = Path(name)
    if path.name == CARD or (path / CARD).is_file():
        return read_card(path)
    record = find_record(name, results)
    checkpoint = Path(record.path or "", CHECKPOINT)
    weights = checkpoint.is_file() and not checkpoint.is_symlink()
    return read_card(export_card(record, scratch / "card", weights))


def _beside(card: Card, repository: str, scratch: Path) -> dict[str, Path]:
    """The files that are made for the Hub, by name."""
    (scratch / README).write_text(model_card(card, repository), encoding="utf-8")
    made = {README: scratch / README}
    if CHECKPOINT in card.files:
        from safetensors.torch import save_file

        state = read_checkpoint(card.folder / CHECKPOINT)["state_dict"]
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, scratch / WEIGHTS)
        made[WEIGHTS] = scratch / WEIGHTS
    return made


def _commit(hub: HfApi, repository: str, files: Mapping[str, Path], card: Card) -> str:
    """Commits files, and removes the weights of a former card; the address of the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    there = {file.rfilename for file in hub.model_info(repository).siblings or ()}
    added = [CommitOperationAdd(name, path) for name, path in sorted(files.items())]
    gone = [CommitOperationDelete(name) for name in (CHECKPOINT, WEIGHTS) if name in there - files.keys()]
    message = f"Card of record {card.record.id}"
    return str(hub.create_commit(repository, [*added, *gone], commit_message=message).commit_url)


def model_card(card: Card, repository: str) -> str:
    """The Hub's model card: metadata, in which every metric is an unverified result, and the card's text."""
    from huggingface_hub import EvalResult, ModelCardData

    record, protocol = card.record, card.record.protocol
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=re.sub(r"[^\w.-]+", "-", record.data["name"]),
            dataset_name=f"{record.data['name']}, {record.data['measure']}",
            dataset_split=protocol.get("split", "test"),
            metric_type=name,
            metric_name=f"{name}, {metric['unit']}" if metric.get("unit") else name,
            metric_value=metric["value"],
            metric_args={"k": protocol["k"], "n": protocol["n"], "standard_error": metric.get("se")},
            verified=False,
        )
        for name, metric in sorted(record.metrics.items())
        if metric.get("value") is not None
    ]
    data = ModelCardData(
        library_name="vaebench",
        pipeline_tag=TASK,
        tags=["vaebench", "vae", record.family],
        model_name=f"{record.variant}, seed {record.seed}",
        eval_results=results,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{card_text(record, f'vaebench pull {repository} --results results')}"


# What is taken from there ----------------------------------------------------------------------------------------


def _listed(folder: Path, repository: str) -> list[str]:
    """The names that a card.json lists, which may be anything."""
    try:
        files = json.loads(read_file(folder, CARD, LONGEST))["files"]
        names = sorted(files)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        names = []
    if RECORD not in names or len(names) > MOST_FILES or not all(is_plain(name) for name in names):
        raise UserError(
            f"the {CARD} of '{repository}' is no card's: expected a list of at most {MOST_FILES} files with plain "
            "names; ask its author for another"
        )
    return names


def _fetch(
    hub: HfApi, repository: str, revision: str, name: str, sizes: Mapping[str, int | None], folder: Path, scratch: Path
) -> None:
    """Downloads a file that is not larger than one of a card, into the card's folder."""
    size, most = sizes[name], most_bytes(name)
    if size is None or size > most:
        raise UserError(
            f"'{name}' of '{repository}' has {'unknown' if size is None else f'{size:,}'} bytes, where a card has "
            f"at most {most:,}; ask its author for another"
        )
    hub.hf_hub_download(repository, name, revision=revision, local_dir=scratch / "downloads")
    take_file(scratch / "downloads", name, folder)
