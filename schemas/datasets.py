"""A frozen dataset's manifest: enough to make the same bytes again from the log."""

from __future__ import annotations

from msgspec import Struct

from schemas.lifecycle import PartitionOffsets


class DatasetManifest(Struct, frozen=True, kw_only=True):
    """What a dataset was made from. `dataset_id` is the hash of content, rules and seeds."""

    dataset_id: str
    tenant: str
    #: Topic → partition → next offset: the log up to here was folded.
    offsets: dict[str, PartitionOffsets]
    #: Names and settings of the label model, the grouping and the split.
    rules: dict[str, str | int | float | bool]
    #: Per split (train, validation, judge): questions and pairs.
    questions: dict[str, int]
    pairs: dict[str, int]
    #: Pairs left out, by reason (document gone, text changed, …).
    dropped: dict[str, int]
    #: File → SHA-256 (hex).
    files: dict[str, str]
