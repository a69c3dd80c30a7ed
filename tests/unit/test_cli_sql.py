"""What `ratchet sql` makes of answers: tables that fit, blocks that do not, errors in one sentence."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from api.cli.sql import print_rows
from api.cli.store import _parameter, one_sentence


def printed(names: list[str], types: list[str], rows: list[list[object]], width: int) -> str:
    body = b"\n".join(msgspec.json.encode(line) for line in (names, types, *rows))
    out = io.StringIO()
    print_rows(Console(file=out, width=width, highlight=False), body)
    return out.getvalue()


def test_a_table_where_it_fits() -> None:
    text = printed(["name", "n"], ["String", "UInt64"], [["[bold]x", 1], [None, 20]], 80)
    assert text.splitlines()[0].split() == ["name", "n"]
    assert "[bold]x" in text  # what comes from data is no markup
    assert "NULL" in text
    assert "2 rows" in text


def test_nested_values_are_short() -> None:
    refs = [{"source": "urn:a", "id": "1"}, {"source": "urn:a", "id": "2"}]
    text = printed(
        ["events", "ok", "x"], ["Array(Tuple(…))", "Bool", "Float64"], [[refs, True, 0.1 + 0.2]], 80
    )
    assert text.splitlines()[1].split(maxsplit=4) == ["[(urn:a,", "1),", "(urn:a,", "2)]", "true  0.3"]


@pytest.mark.parametrize("width", [80, 120])
def test_rows_as_blocks_where_it_does_not(width: int) -> None:
    names = [f"column_{n}" for n in range(20)]
    text = printed(names, ["String"] * 20, [["some longer value"] * 20], width)
    assert "── row 1 ──" in text
    assert text.count("some longer value") == 20
    assert max(map(len, text.splitlines())) <= width


def test_long_answers_are_cut_and_say_so() -> None:
    text = printed(["n"], ["UInt64"], [[n] for n in range(1_500)], 80)
    assert "1,500 rows, the first 1,000 shown" in text
    assert "\n999" in text
    assert "\n1000" not in text


def test_no_rows() -> None:
    assert printed(["n"], ["UInt64"], [], 80).splitlines()[-1] == "0 rows"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "Code: 60. DB::Exception: Unknown table expression identifier 'x'. (UNKNOWN_TABLE) "
            "(version 26.9.1.1 (official build))\n",
            "Unknown table expression identifier 'x'. (UNKNOWN_TABLE)",
        ),
        (
            "Code: 62. DB::Exception: Syntax error: failed at position 1 (SELEC): SELEC. Expected one of: "
            + "SELECT query, " * 40
            + "WITH. (SYNTAX_ERROR) (version 26.9.1.1 (official build))",
            "Syntax error: failed at position 1 (SELEC): SELEC (SYNTAX_ERROR)",
        ),
        ("two\nlines", "two lines"),
        ("", "ClickHouse refused the statement without a reason"),
    ],
)
def test_an_error_is_one_sentence(text: str, sentence: str) -> None:
    assert one_sentence(text) == sentence


def test_parameters_are_escaped() -> None:
    assert _parameter("a'b\\c\td\n") == "a\\'b\\\\c\\td\\n"
    assert _parameter(["a", "b'"]) == "['a', 'b\\'']"
    assert _parameter(20) == "20"
