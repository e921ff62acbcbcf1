"""Submissions: the files of a pull request that brings a result card to somebody else's board."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vaebench.configuration.gate import from_elsewhere
from vaebench.display.tables import escaped
from vaebench.errors import UserError
from vaebench.files import take_file, whole_folder
from vaebench.records import CHECKPOINT
from vaebench.records.claims import CARD
from vaebench.reproduction.cards import Card, card_name, read_card

FOLDER = "submissions"  # of the repository that keeps a board
REQUEST = "request.md"
LARGE = 100 * 2**20  # bytes of a file that hosts of repositories refuse outside of LFS


class Submission(NamedTuple):
    """The files of a pull request.

    Attributes:
        folder: of all of them.
        card: the card's folder, to be copied into the repository.
        request: the text of the request.
        checks: what a referee will check, a sentence each.
    """

    folder: Path
    card: Path
    request: Path
    checks: tuple[str, ...]


def prepare(card: Path, out: Path) -> Submission:
    """Reads a card as `vaebench import` does, and prepares the files of a pull request in a new folder.

    Args:
        card: the card's folder, or its card.json.
        out: the new folder.

    Raises:
        UserError: the card is not sound, or holds files that do not belong to it; or `out` exists.
    """
    taken = whole_card(card)
    name = card_name(taken.record)
    checks = tuple(to_be_checked(taken))
    with whole_folder(out, "submission") as folder:
        place = folder / FOLDER / name
        place.mkdir(parents=True)
        for file in (CARD, *taken.files):
            take_file(taken.folder, file, place)
        (folder / REQUEST).write_text(_request(taken, name, checks), encoding="utf-8")
    return Submission(out, out / FOLDER / name, out / REQUEST, checks)


def whole_card(card: Path) -> Card:
    """A card with nothing beside it, as a repository takes it.

    Raises:
        UserError: as `read_card`, or there are other files in its folder.
    """
    taken = read_card(card)
    if taken.strays:
        raise UserError(
            f"'{taken.folder}' holds {taken.strays[0]!r}, which is no file of the card; expected the files that "
            f"`vaebench export` wrote and no other: move it away"
        )
    return taken


def to_be_checked(card: Card) -> list[str]:
    """What a referee checks of a card, and what it cannot, a sentence each."""
    record, protocol = card.record, card.record.protocol
    said = [
        f"The folder holds the {len(card.files)} files that card.json lists, unaltered, and no other.",
        "Its configuration names nothing but what is vaebench's own, and no file or address of a machine.",
    ]
    if from_elsewhere(record.config):
        return [*said, "The model is not vaebench's, so that nobody can measure it from the card: it stays a claim."]
    if CHECKPOINT not in card.files:
        return [
            *said,
            f"It has no {CHECKPOINT}, so that nothing is measured again: it is shown as a claim, without a rank, until "
            "somebody trains it again by `vaebench reproduce`; export it with --checkpoint to be verified.",
        ]
    return [
        *said,
        f"The weights in {CHECKPOINT} are those that the record names, trained with its settings, seed and data.",
        f"The images of '{record.data['name']}' have the hashes that the record names, in every split.",
        f"Each of the {len(record.metrics)} metrics is measured again from these weights on {protocol['n']:,} images "
        f"with K = {protocol['k']}, and is the same within rounding.",
        "How the weights were trained is not checked: that is what `vaebench reproduce` does.",
    ]


def large_files(submission: Submission) -> list[str]:
    """Files that hosts of repositories refuse outside of LFS, a sentence each."""
    return [
        f"{path.name} has {path.stat().st_size / 2**20:.0f} MB, and most hosts take files over {LARGE >> 20} MB by Git "
        "LFS alone: `git lfs track`"
        for path in sorted(submission.card.iterdir())
        if path.stat().st_size > LARGE
    ]


def _request(card: Card, name: str, checks: tuple[str, ...]) -> str:
    """The text of the pull request."""
    record = card.record
    scored = [name for name in ("log_likelihood", "elbo") if record.value(name) is not None][:1]
    figures = "".join(
        f"- {metric}: {record.value(metric):.6g} ± {record.error(metric) or 0:.2g} over images\n" for metric in scored
    )
    return (
        f"# {escaped(record.variant)}, seed {record.seed}, on {escaped(record.data['name'])}\n\n"
        f"- card: `{FOLDER}/{name}`\n- record: `{record.id}`\n{figures}\n"
        "What a referee (`vaebench referee`) checks:\n\n" + "".join(f"- {check}\n" for check in checks)
    )
