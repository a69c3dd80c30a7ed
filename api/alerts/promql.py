"""The part of PromQL that the alerts are written in, as a tree.

    numbers, "strings", selectors with = != =~ !~ and a range [5m]
    sum, min, max by (label, …) (vector)
    rate, increase, changes, deriv, min_over_time (range)
    histogram_quantile (number, vector); vector (number)
    + - * /, == != > < >= <= (which filter), and, or, unless; sides match on all their labels

What is not in it is refused by name: nothing is evaluated as something that it does not mean. Binding, from
loose to tight: or; and unless; comparisons; + -; * /.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from schemas.errors import RatchetError


class QueryError(RatchetError):
    """An expression that cannot be read; the text says where and what was expected."""


class Number(NamedTuple):
    """A scalar."""

    value: float


class Matcher(NamedTuple):
    """One label of a selector. A missing label counts as ''."""

    label: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is wanted. Regular expressions match the whole value."""
        value = labels.get(self.label, "")
        match self.operator:
            case "=":
                return value == self.value
            case "!=":
                return value != self.value
            case "=~":
                return re.fullmatch(self.value, value) is not None
            case _:
                return re.fullmatch(self.value, value) is None


class Selector(NamedTuple):
    """Series by name and labels; `range_s` is None for their present values."""

    name: str
    matchers: tuple[Matcher, ...]
    range_s: float | None = None


class Call(NamedTuple):
    """A function of its arguments."""

    function: str
    arguments: tuple[Node, ...]


class Aggregate(NamedTuple):
    """Elements that agree in the labels `by`, taken together."""

    function: str
    by: tuple[str, ...]
    vector: Node


class Binary(NamedTuple):
    """Two sides and what is between them."""

    operator: str
    left: Node
    right: Node


Node = Number | Selector | Call | Aggregate | Binary

AGGREGATES: Final = ("sum", "min", "max")
#: Function → the kinds of its arguments.
FUNCTIONS: Final = {
    "rate": ("range",),
    "increase": ("range",),
    "changes": ("range",),
    "deriv": ("range",),
    "min_over_time": ("range",),
    "histogram_quantile": ("number", "vector"),
    "vector": ("number",),
}
SETS: Final = ("and", "or", "unless")
COMPARISONS: Final = ("==", "!=", ">=", "<=", ">", "<")
_BINDING: Final = {"or": 1, "and": 2, "unless": 2, "+": 4, "-": 4, "*": 5, "/": 5} | dict.fromkeys(
    COMPARISONS, 3
)
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<range>\[\d+[smhd]\])
      | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<sign>=~|!~|==|!=|>=|<=|[-+*/<>=(){},])
    )""",
    re.VERBOSE,
)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ESCAPES: Final = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}


def parse(text: str) -> Node:
    """The tree of an expression. Raises QueryError."""
    parser = _Parser(text)
    node = parser.expression(0)
    parser.expect_end()
    return node


def parse_selector(text: str) -> Selector:
    """A name with labels, as `name{label="value"}`. Raises QueryError."""
    node = parse(text)
    if not isinstance(node, Selector):
        raise QueryError(f"expected a name with labels, got {text!r}")
    return node


def selectors(node: Node) -> tuple[Selector, ...]:
    """Every selector of a tree."""
    match node:
        case Selector():
            return (node,)
        case Call(_, arguments):
            return tuple(one for argument in arguments for one in selectors(argument))
        case Aggregate(_, _, vector):
            return selectors(vector)
        case Binary(_, left, right):
            return selectors(left) + selectors(right)
        case Number():
            return ()


def quoted(value: str) -> str:
    """A label's value as it is written in an expression."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise QueryError(
                    f"{text!r}: nothing that can be read at character {at}: {text[at : at + 20]!r}"
                )
            self._tokens.append((found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
            at = found.end()
        self._next = 0

    def _peek(self) -> tuple[str, str]:
        kind, text, _ = self._tokens[self._next] if self._next < len(self._tokens) else ("end", "the end", 0)
        return kind, text

    def _take(self, *expected: str) -> str:
        kind, text = self._peek()
        if expected and text not in expected and kind not in expected:
            raise QueryError(f"{self._text!r}: expected {' or '.join(expected)}, got {text!r}")
        self._next += 1
        return text

    def _took(self, text: str) -> bool:
        taken = self._peek() == ("sign", text)
        self._next += taken
        return taken

    def expect_end(self) -> None:
        if self._peek()[0] != "end":
            raise QueryError(f"{self._text!r}: expected an operator or the end, got {self._peek()[1]!r}")

    def expression(self, binding: int) -> Node:
        left = self._operand()
        while (bound := _BINDING.get(self._peek()[1], 0)) > binding:
            operator = self._take()
            left = Binary(operator, left, self.expression(bound))
        return left

    def _operand(self) -> Node:
        if self._took("("):
            node = self.expression(0)
            self._take(")")
            return node
        if self._peek()[0] == "number":
            return Number(float(self._take()))
        word = self._take("word", "number", "(")
        if word in AGGREGATES:
            return self._aggregate(word)
        if self._took("("):
            return self._call(word)
        return self._selector(word)

    def _aggregate(self, function: str) -> Aggregate:
        by: tuple[str, ...] = ()
        if self._peek() == ("word", "by"):
            self._take()
            self._take("(")
            by = self._words()
        self._take("(")
        vector = self.expression(0)
        self._take(")")
        return Aggregate(function, by, vector)

    def _words(self) -> tuple[str, ...]:
        words: list[str] = []
        while not self._took(")"):
            words.append(self._take("word"))
            if not self._took(","):
                self._take(")")
                break
        return tuple(words)

    def _call(self, function: str) -> Call:
        kinds = FUNCTIONS.get(function)
        if kinds is None:
            known = ", ".join((*AGGREGATES, *FUNCTIONS))
            raise QueryError(f"{self._text!r}: {function} is not evaluated here; these are: {known}")
        arguments = []
        for index, kind in enumerate(kinds):
            if index:
                self._take(",")
            argument = self.expression(0)
            if kind != _kind(argument):
                raise QueryError(f"{self._text!r}: argument {index + 1} of {function} is no {kind}")
            arguments.append(argument)
        self._take(")")
        return Call(function, tuple(arguments))

    def _selector(self, name: str) -> Selector:
        matchers: list[Matcher] = []
        if self._took("{"):
            while not self._took("}"):
                label = self._take("word")
                operator = self._take("=", "!=", "=~", "!~")
                matchers.append(Matcher(label, operator, _unquoted(self._take("string"))))
                if not self._took(","):
                    self._take("}")
                    break
        range_s = None
        if self._peek()[0] == "range":
            text = self._take()
            range_s = float(text[1:-2]) * _SECONDS[text[-2]]
        return Selector(name, tuple(matchers), range_s)


def _kind(node: Node) -> str:
    if isinstance(node, Number):
        return "number"
    return "range" if isinstance(node, Selector) and node.range_s is not None else "vector"


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), text[1:-1])
