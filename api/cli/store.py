"""The analytical store as an analyst sees it: one SELECT at a time over HTTP, the promised views only."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import httpx
import msgspec

from infra.settings import ClickHouseSettings
from schemas.errors import Fatal, RatchetError, Retryable

#: Names without a database are looked up here.
VIEWS: Final = "ratchet"
#: Databases `ratchet_NAME` of stores beside; not storage, nor a rebuild that is not finished.
_KEPT_STORES: Final = (
    "SELECT substring(name, 9) AS store FROM system.databases WHERE match(name, '^ratchet_[a-z]') "
    "AND NOT startsWith(name, 'ratchet_store') AND name != 'ratchet_next' ORDER BY name"
)
#: How long a command waits until what it wrote is visible; normally a fraction of a second.
VISIBLE_S: Final = 15.0
_TIMEOUT_S: Final = 120.0
_FRAME: Final = re.compile(
    r"\A(?:Code: \d+\. )?(?:DB::Exception: )?(.*?)(?:\.? ?\(version [^()]*(?:\([^()]*\))?\))?\Z", re.DOTALL
)
#: What the parser says at length after its reason.
_TAIL: Final = re.compile(
    r"[.:] (?:Expected one of: .{160,}?|In scope SELECT formatQuery\(.*\))(?= \([A-Z_]+\)\Z|\Z)"
)
_ESCAPES: Final = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "'": "\\'"}
)
Value = str | int | float | Sequence[str]


class StatementRefused(RatchetError):
    """The store does not run the statement; the text is its own reason, in one sentence."""


class Answer(msgspec.Struct, frozen=True):
    """The bytes of an answer and the format that they are in (a FORMAT in the statement wins)."""

    body: bytes
    format: str


class AnalystStore:
    """Statements under the analysts' account. No session, no state: every call is a request of its own.

    Names without a database are those of `database`.
    """

    def __init__(self, settings: ClickHouseSettings, database: str = VIEWS) -> None:
        self._settings = settings
        self._database = database

    def ask(self, sql: str, format: str, values: dict[str, Value] | None = None) -> Answer:
        """The whole answer in `format`; `{name:Type}` in the statement takes its value from `values`.

        Raises StatementRefused with the store's reason; Retryable if nobody answers.
        """
        settings = self._settings
        parts = {"query": sql} | {
            f"param_{name}": _parameter(value) for name, value in (values or {}).items()
        }
        try:
            answer = httpx.post(
                settings.url,
                params={
                    "database": self._database,
                    "default_format": format,
                    # an error half-way through is then an error, and not the end of the rows
                    "wait_end_of_query": "1",
                    "output_format_json_quote_64bit_integers": "0",
                    "output_format_json_named_tuples_as_objects": "1",
                },
                headers={
                    "X-ClickHouse-User": settings.analyst_user,
                    "X-ClickHouse-Key": settings.analyst_password,
                },
                files={name: (None, text.encode()) for name, text in parts.items()},
                timeout=_TIMEOUT_S,
            )
        except httpx.TransportError as error:
            raise Retryable(
                f"ClickHouse does not answer at {settings.url} ({error}): "
                "`ratchet status` shows what runs, `ratchet up` starts it"
            ) from error
        if answer.status_code != 200:
            raise StatementRefused(one_sentence(answer.text))
        return Answer(answer.content, answer.headers.get("x-clickhouse-format", format))

    def rows(self, sql: str, **values: Value) -> list[dict[str, Any]]:
        """The rows of a statement, a dictionary each. Raises as `ask`."""
        body = self.ask(sql, "JSONEachRow", values).body
        return [msgspec.json.decode(line) for line in body.splitlines() if line]

    def row(self, sql: str, **values: Value) -> dict[str, Any]:
        """The one row of an aggregate. Raises as `ask`."""
        (row,) = self.rows(sql, **values)
        return row


def open_store(settings: ClickHouseSettings, name: str) -> AnalystStore:
    """The views of a store that `ratchet rebuild --into NAME` keeps; `live` is the living one.

    Raises Fatal if none of that name is kept, and as `ask`.
    """
    living = AnalystStore(settings)
    if name == "live":
        return living
    kept = [row["store"] for row in living.rows(_KEPT_STORES)]
    if name not in kept:
        raise Fatal(f"no store {name!r} is kept beside; there are: {', '.join(['live', *kept])}")
    return AnalystStore(settings, f"{VIEWS}_{name}")


def wait_for_count(store: AnalystStore, sql: str, enough: Callable[[int], bool], **values: Value) -> bool:
    """Ask until `enough(n)` holds for the statement's column `n`, or VISIBLE_S have passed."""
    deadline_s = time.monotonic() + VISIBLE_S
    pause_s = 0.1
    while not enough(int(store.row(sql, **values)["n"])):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(pause_s)
        pause_s = min(1.0, pause_s * 1.5)
    return True


def one_sentence(text: str) -> str:
    """ClickHouse's error without code, class and version, on one line."""
    found = _FRAME.match(" ".join(text.split()))
    sentence = _TAIL.sub("", (found[1] if found else text).strip())
    return sentence or "ClickHouse refused the statement without a reason"


def _parameter(value: Value) -> str:
    """A value as a parameter's text: escaped like a tab-separated field, a list like an array literal."""
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, int | float):
        return str(value)
    return "[" + ", ".join(f"'{one.translate(_ESCAPES)}'" for one in value) + "]"
