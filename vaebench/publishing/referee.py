"""The referee of submitted cards: measures their weights again, and says which claims hold.

Cards are strangers' and what is printed goes to logs that other programs read: every line begins with words of this
module, and texts of cards are escaped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch

from vaebench.configuration.gate import from_elsewhere
from vaebench.display.tables import escaped
from vaebench.errors import UserError, printable
from vaebench.publishing.submission import whole_card
from vaebench.records import CHECKPOINT, read_record
from vaebench.records.claims import VERIFIED, note, verified
from vaebench.reproduction.cards import Card, import_card
from vaebench.reproduction.comparison import RecordComparison, compare_records
from vaebench.reproduction.repeat import OtherDataError, device_of, verify_record
from vaebench.reproduction.tolerance import SAME_WEIGHTS
from vaebench.running.recording import environment

HOLDS, CLAIM, FALSE, REFUSED = "verified", "claim", "different", "refused"
MEANS = {
    HOLDS: "the weights give the figures of the card",
    CLAIM: "nothing false was found, and not all was measured again: it is shown without a rank",
    FALSE: "the weights or the data do not give the figures of the card",
    REFUSED: "it is no sound card, or its weights are not its own",
}


class Verdict(NamedTuple):
    """What a referee says of a card.

    Attributes:
        card: its folder.
        verdict: a key of `MEANS`.
        reason: a sentence, which may hold texts of the card.
        model: variant, seed and data; empty where it could not be read.
    """

    card: Path
    verdict: str
    reason: str
    model: str = ""

    @property
    def passes(self) -> bool:
        """Whether the card may be taken in: as verified, or as a claim."""
        return self.verdict in (HOLDS, CLAIM)


def judge_cards(
    cards: Iterable[Path], out: Path, results: Path | None = None, device: str | None = None
) -> list[Verdict]:
    """Judges cards one after another; a faulty one does not keep the others from being judged.

    Args:
        cards: their folders.
        out: folder of the new records and of unfinished work.
        results: a folder of records into which cards that pass are imported, marked as verified where they were.
        device: where to evaluate; default: as each record.
    """
    return [_judged(card, out, results, device) for card in cards]


def _judged(folder: Path, out: Path, results: Path | None, device: str | None) -> Verdict:
    try:
        card = whole_card(folder)
    except (UserError, OSError) as error:
        return Verdict(folder, REFUSED, str(error))
    record = card.record
    found = _measured(card, out, device)
    verdict = found._replace(card=folder, model=f"{record.variant}, seed {record.seed}, on {record.data['name']}")
    if results is None or not verdict.passes:
        return verdict
    try:
        place, _ = import_card(folder, results)
    except UserError as error:  # measured here before
        return verdict._replace(reason=f"{verdict.reason}; {error}")
    own = read_record(place)
    if verdict.verdict == HOLDS and own.digest == record.digest and verified(own) is None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        here = environment(torch.device(device_of(record, device)))
        note(own, VERIFIED, {"how": "verify", "class": verdict.reason, "at": at, "environment": here})
    return verdict


def _measured(card: Card, out: Path, device: str | None) -> Verdict:
    """The verdict on a sound card."""
    record = card.record
    if from_elsewhere(record.config):
        return Verdict(card.folder, CLAIM, "the model is not vaebench's own")
    if CHECKPOINT not in card.files:
        return Verdict(card.folder, CLAIM, f"it has no {CHECKPOINT}")
    try:
        again = verify_record(record, None, out, progress=False, device=device)
    except OtherDataError as error:
        return Verdict(card.folder, FALSE, str(error))
    except (UserError, OSError) as error:
        return Verdict(card.folder, REFUSED, str(error))
    comparison = compare_records(record, again, SAME_WEIGHTS)
    if comparison.different:
        return Verdict(card.folder, FALSE, _gaps(comparison))
    if comparison.former:
        return Verdict(
            card.folder, CLAIM, f"of a former definition, not measured again: {', '.join(comparison.former)}"
        )
    return Verdict(card.folder, HOLDS, comparison.widest)


def _gaps(comparison: RecordComparison) -> str:
    """The metrics that differ, with both values."""
    return "; ".join(
        f"{finding.metric} is {_figure(finding.recorded)} on the card and {_figure(finding.measured)} now"
        for finding in comparison.findings
        if finding.metric in comparison.different
    )


def _figure(value: float | None) -> str:
    return "unavailable" if value is None else f"{value:.6g}"


def report(verdicts: Iterable[Verdict]) -> str:
    """The verdicts as Markdown, a line each, and what the words mean."""
    lines = ["| card | model | verdict | why |", "| :-- | :-- | :-- | :-- |"]
    told = list(verdicts)
    lines += [f"| {_text(one.card.name)} | {_text(one.model)} | {one.verdict} | {_text(one.reason)} |" for one in told]
    used = dict.fromkeys(one.verdict for one in told)
    return "\n".join([*lines, "", *(f"- {name}: {MEANS[name]}" for name in used), ""])


def _text(text: str) -> str:
    return escaped(printable(text))


def show(verdicts: Iterable[Verdict]) -> None:
    """Prints the report, and the cards that do not pass to the error stream."""
    told = list(verdicts)
    print(report(told), end="")
    for one in told:
        if not one.passes:
            print(f"vaebench: {one.verdict}: {_text(str(one.card))}", file=sys.stderr)
