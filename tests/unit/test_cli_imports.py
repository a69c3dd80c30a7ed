"""Cutting a file of events into batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.cli.imports import Line, cut_batches


def stored(document_id: str) -> bytes:
    return b'{"type": "ratchet.document.stored.v1", "data": {"document_id": "%b"}}' % document_id.encode()


@given(
    st.lists(
        st.sampled_from([b"", b"  ", b"{}", b"nonsense", stored("a"), stored("b"), stored("c")]), max_size=60
    )
)
def test_every_line_that_is_not_blank_is_in_one_batch_and_no_batch_names_a_document_twice(
    contents: list[bytes],
) -> None:
    lines = [Line(number, content) for number, content in enumerate(contents, 1)]
    cut = list(cut_batches(iter(lines)))
    assert [line for batch in cut for line in batch] == [line for line in lines if line.content.strip()]
    for batch in cut:
        named = [line.content for line in batch if b"document" in line.content]
        assert len(named) == len(set(named))


def test_batches_are_bounded_by_lines_and_by_bytes() -> None:
    many = [Line(number, b"{}") for number in range(2_500)]
    assert [len(batch) for batch in cut_batches(iter(many))] == [1_000, 1_000, 500]
    large = [Line(number, b"x" * 1_500_000) for number in range(5)]
    assert [len(batch) for batch in cut_batches(iter(large))] == [2, 2, 1]
