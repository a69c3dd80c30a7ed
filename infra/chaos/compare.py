"""What clients know against what the tables say, in both directions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from infra.chaos.events import FEEDBACK, RETRACTED
from infra.chaos.ledger import Identity, Truth

_EXAMPLES: Final = 5


class Tables(Struct, frozen=True):
    """Rows as lists, columns in this order."""

    #: source, query_id, event_id, content_hash, type, source and id that a retraction names
    events: Sequence[Sequence[Any]]
    #: source, subject, event_id, reason, content hash of the original
    rejected: Sequence[Sequence[Any]]
    #: query_id, sources and ids of its feedback
    episodes: Sequence[Sequence[Any]]


EVENTS_SQL: Final = (
    "SELECT source, query_id, event_id, content_hash, type, JSONExtractString(data, 'feedback_source'), "
    "JSONExtractString(data, 'feedback_id') FROM events"
)
REJECTED_SQL: Final = (
    "SELECT event_source, subject, event_id, reason, JSONExtractString(original, 'contenthash') FROM rejected"
)
EPISODES_SQL: Final = "SELECT query_id, feedback_source, feedback_id FROM episodes"


class Counts(Struct, frozen=True, kw_only=True):
    """Events by what became of them. An event is an identity with a content; all but the first are faults."""

    #: Valid events, and those that a client knows to be taken; refusals are in `refused`.
    sent: int
    acknowledged: int
    #: Rows of `events`; conflicts are in `rejected`, one a content that lost.
    stored: int
    rejected: int
    conflicts: int
    #: Invalid events whose refusal a client knows of.
    refused: int
    #: Stored and never confirmed: a client had sent it and given up.
    unconfirmed_but_stored: int
    requests: int
    #: Acknowledged, and neither in `events` nor in `rejected`.
    lost: int
    #: Rows beyond one of an identity, and feedback that an episode counts twice or does not count.
    doubled: int
    #: Stored, and no client sent it so.
    never_sent: int
    #: Another content took the place of one that was acknowledged before the other was sent.
    displaced: int
    #: Answers that no door should give.
    answers_out_of_place: int
    #: Some of each kind of fault.
    examples: dict[str, list[str]]

    @property
    def clean(self) -> bool:
        """No fault at all."""
        return not (
            self.lost or self.doubled or self.never_sent or self.displaced or self.answers_out_of_place
        )


def compare(truth: Truth, tables: Tables) -> Counts:
    """Count."""
    faults: dict[str, list[str]] = {
        name: [] for name in ("lost", "doubled", "never_sent", "displaced", "answers_out_of_place")
    }
    faults["answers_out_of_place"] += truth.problems
    stored: dict[Identity, str] = {}
    for source, query_id, event_id, content_hash, *_ in tables.events:
        identity = (source, query_id, event_id)
        if identity in stored:
            faults["doubled"].append(f"{identity} is in `events` more than once")
        stored[identity] = content_hash
        if content_hash not in truth.sent.get(identity, ()):
            faults["never_sent"].append(f"{identity} is in `events` with content that nobody sent")
    entries = {
        (source, event_id) for source, _, event_id, reason, _ in tables.rejected if reason != "conflict"
    }
    conflicts = [((s, q, i), h) for s, q, i, reason, h in tables.rejected if reason == "conflict"]
    for identity, content_hash in conflicts:
        if content_hash not in truth.sent.get(identity, ()):
            faults["never_sent"].append(f"{identity} is a conflict with content that nobody sent")
    kept = set(stored.items()) | set(conflicts)
    faults["lost"] += [f"{identity} {digest}" for identity, digest in truth.acknowledged - kept]
    faults["lost"] += [f"the refusal of {one}" for one in truth.refused if (one[0], one[2]) not in entries]
    known = {(source, event_id) for source, _, event_id in truth.invalid}
    faults["never_sent"] += [f"entry of {entry} in `rejected`" for entry in entries - known]
    for identity, digest in truth.first.items():
        if stored.get(identity, digest) != digest:
            faults["displaced"].append(f"{identity}: {digest} came first")
    faults["doubled"] += _miscounted(tables)
    return Counts(
        sent=sum(map(len, truth.sent.values())),
        acknowledged=len(truth.acknowledged),
        stored=len(stored),
        rejected=len(tables.rejected),
        conflicts=len(conflicts),
        refused=len(truth.refused),
        unconfirmed_but_stored=len(kept - truth.acknowledged),
        requests=truth.requests,
        examples={name: sorted(found)[:_EXAMPLES] for name, found in faults.items() if found},
        **{name: len(found) for name, found in faults.items()},
    )


def _miscounted(tables: Tables) -> Iterable[str]:
    """Episodes whose feedback is not the feedback in `events` without the retracted, each once."""
    given: dict[str, set[tuple[str, str]]] = {}
    retracted: dict[str, set[tuple[str, str]]] = {}
    for source, query_id, event_id, _, type_, named_source, named_id in tables.events:
        if type_ == FEEDBACK:
            given.setdefault(query_id, set()).add((source, event_id))
        elif type_ == RETRACTED:
            retracted.setdefault(query_id, set()).add((named_source, named_id))
    counted: Mapping[str, Counter[tuple[str, str]]] = {
        query_id: Counter(zip(sources, ids, strict=True)) for query_id, sources, ids in tables.episodes
    }
    queries = {query_id for _, query_id, *_ in tables.events}
    for query_id in queries | counted.keys():
        expected = Counter(given.get(query_id, set()) - retracted.get(query_id, set()))
        if query_id not in counted:
            yield f"query {query_id} has events and no episode"
        elif counted[query_id] != expected:
            yield f"query {query_id} counts feedback {counted[query_id]}, its events are {expected}"
