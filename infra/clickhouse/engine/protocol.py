"""ClickHouse's HTTP interface: what a request says, and the headers of its answer.

Read from the query string, then the headers, then (multipart) the body. A parameter that this interface does
not know is a setting of the statement, as on a server.
"""

import email.parser
import email.policy
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from .compression import OFFERED
from .errors import BAD_ARGUMENTS, NOT_IMPLEMENTED, SYNTAX_ERROR, EngineError

# Parameters of the interface itself. `role`, `quota_key` and their like are accepted and have no effect here.
_TRANSPORT: Final = frozenset(
    [
        "buffer_size",
        "client_protocol_version",
        "close_session",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "log_comment",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    ]
)

CONTENT_TYPES: Final = {
    "json": "application/json; charset=UTF-8",
    "jsoncompact": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tabseparatedwithnames": "text/tab-separated-values; charset=UTF-8",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "rowbinarywithnamesandtypes": "application/octet-stream",
    "parquet": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
}


class ExternalTable(msgspec.Struct, frozen=True):
    """A table that came with the request: rows in `format`, columns as in CREATE TABLE."""

    name: str
    structure: str
    format: str
    data: bytes


class QueryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One statement as the client sent it."""

    sql: bytes
    #: What follows the statement: the rows of an INSERT.
    data: bytes
    #: Values of {name:Type} in the statement.
    parameters: dict[str, str]
    settings: dict[str, str]
    database: str
    query_id: str
    log_comment: str
    session_id: str
    session_timeout_s: float | None
    session_must_exist: bool
    default_format: str
    #: The client wants the whole result, or an error, and no stream.
    wait_end_of_query: bool
    read_only: bool
    external_tables: tuple[ExternalTable, ...]


def query_parameters(query_string: bytes) -> dict[str, str]:
    """The decoded query string; of a repeated name the last value counts."""
    return dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True))


def answer_coding(headers: Mapping[str, str], parameters: Mapping[str, str]) -> str:
    """The best coding that the client accepts, or ""; it has to ask with enable_http_compression=1."""
    if parameters.get("enable_http_compression") != "1":
        return ""
    accepted = {part.split(";")[0].strip() for part in headers.get("accept-encoding", "").lower().split(",")}
    return next((name for name in OFFERED if name in accepted), "")


def read_request(
    method: str, headers: Mapping[str, str], parameters: Mapping[str, str], body: bytes, query_id: str
) -> QueryRequest:
    """The statement and all that goes with it.

    Raises EngineError for an empty statement, for the native framing (compress=1, decompress=1), and for
    values that are no numbers.
    """
    rest = dict(parameters)
    if rest.get("compress") == "1" or rest.get("decompress") == "1":
        raise EngineError(
            "compress=1 and decompress=1 are not supported here: use Content-Encoding and Accept-Encoding "
            "with enable_http_compression=1. (NOT_IMPLEMENTED)",
            NOT_IMPLEMENTED,
        )
    external: tuple[ExternalTable, ...] = ()
    content_type = headers.get("content-type", "")
    if content_type.startswith("multipart/form-data"):
        external, body = _read_multipart(content_type, body, rest), b""
    sql = rest.get("query", "").encode()
    if not sql:
        sql, body = body, b""
    if not sql.strip():
        raise EngineError("Empty query. (SYNTAX_ERROR)", SYNTAX_ERROR)
    settings = {
        name: value
        for name, value in rest.items()
        if name not in _TRANSPORT and not name.startswith("param_")
    }
    # SET readonly cannot be undone on a kept session: it is enforced by the statement's class instead.
    read_only = settings.pop("readonly", "2" if method == "GET" else "0") != "0"
    timeout = rest.get("session_timeout")
    try:
        session_timeout_s = float(timeout) if timeout else None
    except ValueError:
        raise EngineError(
            f"session_timeout is {timeout!r}, expected seconds. (BAD_ARGUMENTS)", BAD_ARGUMENTS
        ) from None
    return QueryRequest(
        sql=sql,
        data=body,
        parameters={name[6:]: value for name, value in rest.items() if name.startswith("param_")},
        settings=settings,
        database=rest.get("database") or headers.get("x-clickhouse-database", ""),
        query_id=query_id,
        log_comment=rest.get("log_comment", ""),
        session_id=rest.get("session_id", ""),
        session_timeout_s=session_timeout_s,
        session_must_exist=rest.get("session_check") == "1",
        default_format=headers.get("x-clickhouse-format") or rest.get("default_format") or "TabSeparated",
        wait_end_of_query=rest.get("wait_end_of_query") == "1",
        read_only=read_only,
        external_tables=external,
    )


def _read_multipart(content_type: str, body: bytes, parameters: dict[str, str]) -> tuple[ExternalTable, ...]:
    """Takes the form's parts: external tables come back, all else (query, param_*) joins `parameters`."""
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts: list[tuple[str, bytes]] = []
    for part in message.iter_parts():
        name, data = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(data, bytes):
            parts.append((name, data))
    tables = []
    for name, data in parts:
        structure, types = parameters.get(f"{name}_structure"), parameters.get(f"{name}_types")
        if structure is None and types is None:
            parameters[name] = data.decode("utf-8", "surrogateescape")
            continue
        if structure is None:
            structure = ", ".join(f"_{number} {of}" for number, of in enumerate((types or "").split(","), 1))
        tables.append(ExternalTable(name, structure, parameters.get(f"{name}_format", "TabSeparated"), data))
    for table in tables:
        for suffix in ("structure", "types", "format"):
            parameters.pop(f"{table.name}_{suffix}", None)
    return tuple(tables)


def error_trailer(text: str, tag: str) -> bytes:
    """How ClickHouse ends a stream that failed after its headers went out; clients find it by `tag`."""
    message = text.encode()
    return (
        f"__exception__\r\n{tag}\r\n".encode()
        + message
        + b"\n"
        + f"{len(message)} {tag}\r\n__exception__\r\n".encode()
    )
