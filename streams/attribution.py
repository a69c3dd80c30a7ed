"""Which list and which document a piece of feedback belongs to.

The rules, in this order:

1. Feedback that names a retrieval belongs to that list and to no other, whether it is known or not.
   - The list is known and was shown: the document named, else the document at the rank named, is looked up
     in it. Found: `shown`. Not found: `not_shown`.
   - The list is a shadow one: nobody saw it, so nothing in it was shown: `not_shown`.
   - The list is not known (yet): `not_shown`; the feedback joins the list when it comes.
2. Feedback that names a document, or only a rank, belongs to the latest list by (effective time,
   retrieval_id) that is no shadow and has it: `shown`. If there is none: `not_shown`.
3. Feedback that names neither is about no document: ''.

Where a document and a rank are both named, the document counts and the rank is looked up; where a list
holds a document twice, its best rank counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schemas.episodes import Attribution, EpisodeRetrieval
from schemas.interactions import Hit, Target


class Resolution(NamedTuple):
    """What feedback was resolved to. `hit` is set if the list holds the document, shadow lists included."""

    retrieval_id: str
    document_id: str
    attribution: Attribution
    retrieval: EpisodeRetrieval | None = None
    hit: Hit | None = None


def attribute(target: Target, retrievals: Sequence[EpisodeRetrieval]) -> Resolution:
    """Resolve a target within its query's lists, which come in the order (effective time, retrieval_id)."""
    document_id, rank, named = target.document_id, target.rank, target.retrieval_id
    if document_id is None and rank is None:
        return Resolution(named or "", "", "")
    for retrieval in reversed(retrievals):
        if named is None:
            if retrieval.shadow:
                continue
        elif retrieval.retrieval_id != named:
            continue
        hit = find_hit(retrieval.hits, document_id, rank)
        if hit is not None:
            seen: Attribution = "not_shown" if retrieval.shadow else "shown"
            return Resolution(retrieval.retrieval_id, hit.document_id, seen, retrieval, hit)
        if named is not None:
            return Resolution(named, document_id or "", "not_shown", retrieval)
    return Resolution(named or "", document_id or "", "not_shown")


def find_hit(hits: Sequence[Hit], document_id: str | None, rank: int | None) -> Hit | None:
    """The best-ranked hit of this document, or, if no document is named, the first hit at this rank."""
    if document_id is None:
        return next((hit for hit in hits if hit.rank == rank), None)
    found: Hit | None = None
    for hit in hits:
        if hit.document_id == document_id and (found is None or hit.rank < found.rank):
            found = hit
    return found
