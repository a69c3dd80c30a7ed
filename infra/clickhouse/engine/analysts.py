"""What an analyst may run: one SELECT over the promised views and harmless system tables.

The engine's own parser says what a statement refers to (EXPLAIN AST prints every node on a line of its own
and runs nothing), and everything in that tree must be on a list: each kind of node, each function, each table
function, each table. Nothing is searched for in the text, so comments, aliases, nesting and spelling cannot
hide a name. The two nodes whose contents the tree does not print, APPLY and SHOW … WHERE, are refused.

Names without a database are looked up in a promised database only, because the connection uses that one.
An alias can put lines into the tree (a quoted name may contain a line break) but cannot take lines out of it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from .connection import Connection, quote_text, statement_class
from .errors import ACCESS_DENIED, EngineError
from .statements import syntax_tree

_LONGEST_BYTES: Final = 1 << 18
_LINE_BREAK: Final = "a name with a line break"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _lines(text: str) -> frozenset[str]:
    return frozenset(line.strip() for line in text.splitlines() if line.strip())


_SYSTEM_TABLES: Final = _words(
    """
    system.aggregate_function_combinators system.columns system.data_type_families system.databases
    system.formats system.functions system.numbers system.numbers_mt system.one system.settings
    system.table_engines system.table_functions system.tables system.time_zones system.zeros
    information_schema.columns information_schema.schemata information_schema.tables information_schema.views
    INFORMATION_SCHEMA.COLUMNS INFORMATION_SCHEMA.SCHEMATA INFORMATION_SCHEMA.TABLES INFORMATION_SCHEMA.VIEWS
    INFORMATION_SCHEMA.columns INFORMATION_SCHEMA.schemata INFORMATION_SCHEMA.tables INFORMATION_SCHEMA.views
    """
)

_TABLE_FUNCTIONS: Final = frozenset(
    ("generate_series", "generateseries", "numbers", "sqlstandardvalues", "values")
)

_NODES: Final = _words(
    """
    ArrayJoin Asterisk ColumnsExceptTransformer ColumnsListMatcher ColumnsRegexpMatcher
    ColumnsReplaceTransformer ColumnsReplaceTransformer::Replacement ColumnsTransformerList
    DescribeQuery ExistsDatabaseQuery ExistsTableQuery ExpressionList Function Identifier
    InterpolateElement Literal OrderByElement QualifiedAsterisk QualifiedColumnsListMatcher
    QualifiedColumnsRegexpMatcher SampleRatio SelectIntersectExceptQuery SelectQuery
    SelectWithUnionQuery Subquery TableExpression TableIdentifier TableJoin TablesInSelectQuery
    TablesInSelectQueryElement WindowDefinition WindowListElement WithElement
    """
)

# By the engine's own categories: these compute from their arguments and reach nothing else.
_PURE_CATEGORIES: Final = _lines(
    """
    Aggregate Functions
    Arithmetic
    Arrays
    Bit
    Bitmap
    Comparison
    Conditional
    Dates and Times
    Distance
    Encoding
    Financial
    Geo
    Geo Polygon
    Hash
    IP Address
    JSON
    Logical
    Map
    Mathematical
    Null
    Random Number
    Rounding
    String
    String Replacement
    String Search
    String Splitting
    Time Window
    Tuple
    Type Conversion
    URL
    UUID
    """
)

# Of "Other", which also holds file, hostName, sleep, getMacro and joinGet; and what the parser makes.
_PURE_OTHERS: Final = _words(
    """
    _CAST bar byteSize caseWithExpression countDigits currentDatabase currentRoles currentSchemas
    currentUser defaultValueOfArgumentType defaultValueOfTypeName dumpColumnStructure exists
    finalizeAggregation formatReadableDecimalSize formatReadableQuantity formatReadableSize
    formatReadableTimeDelta getSetting getSizeOfEnumType grouping identity ignore indexHint
    initializeAggregation isConstant isDecimalOverflow lambda lowCardinalityIndices
    lowCardinalityKeys materialize minSampleSizeContinuous minSampleSizeConversion neighbor nested
    parseReadableSize parseReadableSizeOrNull parseReadableSizeOrZero parseTimeDelta
    rowNumberInAllBlocks rowNumberInBlock runningAccumulate runningDifference
    runningDifferenceStartingWithFirstValue throwIf toColumnTypeName toTypeName transform untuple
    variantElement variantType version visibleWidth
    """
)

# SHOW may carry a WHERE that the tree does not print: only these texts, as a whole.
_SHOW: Final = re.compile(
    rb"\s*SHOW\s+(?:DATABASES|TABLES(?:\s+(?:FROM|IN)\s+\w+)?)\s*(?:FORMAT\s+\w+)?\s*;?\s*", re.IGNORECASE
)
_NODE: Final = re.compile(r" *(?P<kind>[A-Za-z:]+)(?: (?P<rest>.*))?\Z")
_NAME: Final = re.compile(r"(?P<name>\S+?)(?: \((?:alias|children) .*)?\Z")
_PLAIN_NAME: Final = re.compile(r"\w+\Z")


class _Function(msgspec.Struct, frozen=True):
    name: str
    is_aggregate: int
    alias_to: str
    categories: str


class _Node(NamedTuple):
    kind: str
    rest: str
    #: The line stands directly behind a TableExpression: a function here is a table function.
    is_table: bool


class AnalystPolicy:
    """The allow-list of one engine version. Immutable after construction, so any thread may use it."""

    def __init__(self, connection: Connection, reads: Callable[[str], bool]) -> None:
        """Asks the engine which functions it has; `reads` says whether analysts read a database."""
        self._reads = reads
        rows = connection.query(
            "SELECT name, is_aggregate, alias_to, trim(categories) AS categories FROM system.functions "
            "WHERE origin = 'System'",
            "JSONEachRow",
        ).bytes()
        functions = [msgspec.json.decode(row, type=_Function) for row in (rows or b"").splitlines()]
        pure = {
            one.name
            for one in functions
            if one.is_aggregate or one.categories in _PURE_CATEGORIES or one.name in _PURE_OTHERS
        } - {"chdb"}
        pure |= {one.name for one in functions if one.alias_to in pure}
        self._functions = frozenset(name.lower() for name in pure | _PURE_OTHERS)
        self._aggregates = frozenset(one.name.lower() for one in functions if one.is_aggregate)
        combinators = connection.query(
            "SELECT name FROM system.aggregate_function_combinators", "TabSeparated"
        ).bytes()
        self._combinators = tuple((combinators or b"").decode().lower().split())

    def check(self, connection: Connection, sql: bytes, data: bytes, parameters: Mapping[str, str]) -> None:
        """Raises EngineError (ACCESS_DENIED, or the parser's own) unless an analyst may run `sql`.

        `connection` uses a promised database, and is already read-only.
        """
        if data:
            raise _refusal("rows that follow the statement")
        if len(sql) > _LONGEST_BYTES:
            raise _refusal(f"statements of more than {_LONGEST_BYTES} bytes")
        name, count = statement_class(connection, sql)
        if name == "UNKNOWN":  # the parser's own words say where; as an argument the text cannot run
            text = quote_text(sql.decode("utf-8", "replace"))
            connection.query(f"SELECT formatQuery({text})", "Null")
            raise _refusal("a statement of an unknown kind")
        if name != "READ_ONLY" or count != 1:
            raise _refusal(f"{count} statements" if count > 1 else f"a statement of class {name}")
        if _SHOW.fullmatch(sql):
            return
        # Put behind EXPLAIN AST the text must still be one statement that only reads.
        if statement_class(connection, b"EXPLAIN AST " + sql) != ("READ_ONLY", 1):
            raise _refusal("a statement that does not start with SELECT or WITH")
        tree = syntax_tree(connection, sql, parameters)
        databases = connection.query("SELECT name FROM system.databases", "TabSeparatedRaw").bytes() or b""
        foreign = frozenset(name for name in databases.decode().splitlines() if not self._reads(name))
        for node in _nodes(tree):
            self._check_node(node, foreign)

    def _check_node(self, node: _Node, foreign: frozenset[str]) -> None:
        if node.kind not in _NODES:
            unknown = f"{node.kind} in a query" if node.kind[0].isupper() else _LINE_BREAK
            raise _refusal(_NODE_WORDS.get(node.kind, unknown))
        if node.kind not in ("Function", "Identifier", "TableIdentifier"):
            return
        found = _NAME.match(node.rest)
        name = found.group("name") if found else node.rest
        if node.kind == "Function":
            allowed = name.lower() in _TABLE_FUNCTIONS if node.is_table else self._is_pure(name.lower())
            if not allowed:
                raise _refusal(f"{'table ' if node.is_table else ''}function {name}")
        elif node.kind == "TableIdentifier":
            if not (_PLAIN_NAME.match(name) or self._is_promised(name)):
                raise _refusal(f"table {name}")
        elif name.partition(".")[0] in foreign and "." in name and not self._is_promised(name):
            raise _refusal(f"name {name}")

    def _is_promised(self, name: str) -> bool:
        """Whether `name` is database.table, or a column of one, that analysts may read."""
        database, _, rest = name.partition(".")
        table = rest.partition(".")[0]
        return f"{database}.{table}" in _SYSTEM_TABLES or self._reads(database)

    def _is_pure(self, name: str) -> bool:
        if name in self._functions:
            return True
        while name not in self._aggregates:  # sumIf, quantileArrayIf: an aggregate with combinators behind it
            suffix = next((one for one in self._combinators if name.endswith(one) and name != one), None)
            if suffix is None:
                return False
            name = name.removesuffix(suffix)
        return True


_NODE_WORDS: Final = {
    "Set": "SETTINGS in a query (send them as settings of the request)",
    "ColumnsApplyTransformer": "APPLY",
    "Explain": "EXPLAIN",
    "ShowTables": "SHOW other than SHOW TABLES [FROM database] and SHOW DATABASES",
    "ShowColumns": "SHOW COLUMNS (use DESCRIBE)",
}


def _nodes(tree: str) -> Iterator[_Node]:
    previous = ""
    for line in tree.split("\n"):
        if not line:
            continue
        found = _NODE.match(line)
        if found is None:
            raise _refusal(_LINE_BREAK)
        yield _Node(found.group("kind"), found.group("rest") or "", previous == "TableExpression")
        previous = found.group("kind")


def _refusal(what: str) -> EngineError:
    return EngineError(
        f"Analysts may not use {what}. They run one SELECT at a time over the views of database ratchet (and "
        "ratchet_NAME of a kept store), system.tables, system.columns and the like, with functions that only "
        "compute; also DESCRIBE, EXISTS, SHOW TABLES and SHOW DATABASES. (ACCESS_DENIED)",
        ACCESS_DENIED,
    )
