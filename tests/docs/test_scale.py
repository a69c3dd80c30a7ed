"""docs/scale.md: every result follows from its formula and the inputs above it."""

from __future__ import annotations

import ast
import math
import operator
import re
from pathlib import Path

import pytest

from schemas.topics import INTERACTIONS, TOPICS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
TEXT = PAGE.read_text(encoding="utf-8")
INPUTS = {
    name: float(value) for name, value in re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", TEXT, flags=re.MULTILINE)
}
RESULTS = re.findall(r"^\| ([^|]+) \| `([^`]+)` \| ([\d,]+) \|$", TEXT, flags=re.MULTILINE)
_CALLS = {"ceil": math.ceil, "round": round, "max": max}
_OPERATORS = {ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Add: operator.add}


def value_of(formula: str) -> float:
    """The value of a formula of numbers, inputs, `*`, `/`, `+`, ceil, round and max."""

    def of(node: ast.expr) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return INPUTS[name]
            case ast.BinOp(left=left, op=op, right=right):
                return float(_OPERATORS[type(op)](of(left), of(right)))
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return float(_CALLS[name](*map(of, arguments)))  # type: ignore[operator]
            case _:
                raise AssertionError(f"what is {ast.dump(node)} in {formula}?")

    return of(ast.parse(formula, mode="eval").body)


@pytest.mark.parametrize(("what", "formula", "result"), RESULTS, ids=[what for what, _, _ in RESULTS])
def test_a_result_is_what_its_formula_gives(what: str, formula: str, result: str) -> None:
    assert value_of(formula) == float(result.replace(",", "")), what


def test_the_page_has_its_tables_and_starts_from_the_partitions_that_there_are() -> None:
    assert len(RESULTS) >= 14
    assert set(INPUTS) >= {"E", "B", "S", "A", "A1", "W", "G", "K", "C", "U", "R", "Q", "N", "D", "T"}
    (declared,) = (topic.partitions for topic in TOPICS if topic.name == INTERACTIONS)
    assert f"in steps of {declared}" in TEXT
