"""Files of documents: what is read, and what is said of what cannot be."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from api.cli.document_files import Item, NoDocuments, SourceDocument, Unreadable, read_documents, size_bytes
from api.cli.document_loading import batches
from schemas.interactions import Attribute


def read(path: Path) -> tuple[list[Item], int]:
    """The items, and how many bytes were reported as read."""
    sizes: list[int] = []
    return list(read_documents(path, sizes.append)), sum(sizes)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(
        '{"id": "a", "title": "T", "text": "x", "lang": "en", "tags": ["p", "q"], "old": null}\n'
        "\n"
        '{"_id": 7, "text": "y", "fields": {"year": 2024, "lang": "de"}, "lang": "en"}\n'
    )
    items, size = read(path)
    assert items == [
        SourceDocument(
            place="line 1",
            document_id="a",
            title="T",
            text="x",
            fields={"lang": "en", "tags": '["p","q"]'},
        ),
        SourceDocument(
            place="line 3", document_id="7", title="", text="y", fields={"lang": "de", "year": 2024}
        ),
    ]
    assert size == size_bytes(path) == path.stat().st_size


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"nonsense", "expected JSON"),
        (b"[1]", "expected an object"),
        (b'{"text": "x"}', "needs an id"),
        (b'{"id": "", "text": "x"}', "needs an id"),
        (b'{"id": true, "text": "x"}', "as text or a whole number"),
        (b'{"id": "a"}', "needs a `text`"),
        (b'{"id": "a", "text": "  "}', "needs a `text`"),
        (b'{"id": "a", "text": 3}', "as text"),
        (b'{"id": "a", "text": "x", "fields": [1]}', "`fields` to be an object"),
        (b'{"id": "a", "text": "\xff"}', "expected JSON"),
    ],
)
def test_a_bad_line_is_named_and_does_not_stop_the_others(tmp_path: Path, line: bytes, says: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"id": "1", "text": "x"}\n' + line + b'\n{"id": "2", "text": "x"}\n')
    items, _ = read(path)
    assert [type(item) for item in items] == [SourceDocument, Unreadable, SourceDocument]
    bad = items[1]
    assert isinstance(bad, Unreadable)
    assert bad.place == "line 2"
    assert says in bad.reason


def test_csv_with_a_header(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('﻿id,text,lang\n1,"two\nlines",en\n2,x\n3,x,en,more\n4,,en\n', encoding="utf-8")
    items, size = read(path)
    assert items[0] == SourceDocument(
        place="line 3", document_id="1", title="", text="two\nlines", fields={"lang": "en"}
    )
    assert items[1] == SourceDocument(place="line 4", document_id="2", title="", text="x", fields={})
    assert items[2] == Unreadable("line 5", "expected 3 values as in the header, got more")
    assert isinstance(items[3], Unreadable)
    assert size <= path.stat().st_size


def test_csv_that_is_none_is_refused(tmp_path: Path) -> None:
    headless = tmp_path / "d.csv"
    headless.write_text("1,x\n2,y\n")
    with pytest.raises(NoDocuments, match="a header with `text`"):
        read(headless)
    latin = tmp_path / "l.csv"
    latin.write_bytes(b"id,text\n1,x\n2,caf\xe9\n")
    with pytest.raises(NoDocuments, match="UTF-8"):
        read(latin)


def test_a_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "lost_card.txt").write_text("Call us.")
    (tmp_path / "a.md").write_text("intro\n# The title\nbody")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    (tmp_path / "ignored.pdf").write_bytes(b"%PDF")
    items, _ = read(tmp_path)
    assert [item.place for item in items] == ["a.md", "bad.txt", "sub/lost_card.txt"]
    first, second, third = items
    assert isinstance(first, SourceDocument)
    assert (first.document_id, first.title) == ("a.md", "The title")
    assert isinstance(second, Unreadable)
    assert isinstance(third, SourceDocument)
    assert third.title == "lost card"


def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("x")
    items = read_documents(tmp_path, lambda _: None)
    first = next(items)
    (tmp_path / "b.txt").unlink()
    second, third = items
    assert isinstance(first, SourceDocument)
    assert second == Unreadable("b.txt", "cannot be read: No such file or directory")
    assert isinstance(third, SourceDocument)


def test_what_is_no_documents_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(NoDocuments, match=r"no .txt or .md"):
        read(tmp_path)
    other = tmp_path / "d.xml"
    other.write_text("<x/>")
    with pytest.raises(NoDocuments, match=r"expected a \.jsonl"):
        read(other)


def document(number: int, size: int) -> SourceDocument:
    return SourceDocument(
        place=f"line {number}", document_id=str(number), title="", text="x" * size, fields={}
    )


def test_batches_keep_order_and_stay_small() -> None:
    items = [document(n, 10) for n in range(450)] + [document(450, 3_000_000), document(451, 10)]
    cut = list(batches(iter(items)))
    assert [item for batch in cut for item in batch] == items
    assert [len(batch) for batch in cut] == [200, 200, 50, 1, 1]


def test_large_fields_and_titles_count_as_texts_do() -> None:
    large: dict[str, Attribute] = {"html": "y" * 60_000}
    items: list[Item] = [
        SourceDocument(place=f"line {n}", document_id=str(n), title="", text="x", fields=large)
        for n in range(100)
    ]
    items += [
        SourceDocument(place=f"line {n}", document_id=str(n), title="ü" * 30_000, text="x", fields={})
        for n in range(100, 200)
    ]
    cut = list(batches(iter(items)))
    assert [item for batch in cut for item in batch] == items
    assert max(len(msgspec.json.encode(batch)) for batch in cut) < 1_001_000
    assert len(cut) == 13
