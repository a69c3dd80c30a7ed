"""Who is asking: the two accounts of an engine, and the limits of the second."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from .errors import ACCESS_DENIED, AUTHENTICATION_FAILED, SETTING_CONSTRAINT_VIOLATION, EngineError
from .protocol import QueryRequest
from .settings import EngineSettings


class Account(StrEnum):
    """The writer may do everything; the analyst runs one checked SELECT at a time."""

    WRITER = "writer"
    ANALYST = "analyst"


# Settings that change how an analyst's answer looks, or make its query smaller, and nothing else.
# Settings that name files or formats' schemas are deliberately absent.
_FREE_SETTINGS: Final = frozenset(
    [
        "aggregate_functions_null_for_empty",
        "date_time_input_format",
        "date_time_output_format",
        "extremes",
        "group_by_use_nulls",
        "join_use_nulls",
        "limit",
        "max_block_size",
        "max_rows_to_read",
        "max_threads",
        "offset",
        "output_format_decimal_trailing_zeros",
        "output_format_json_named_tuples_as_objects",
        "output_format_json_quote_64bit_integers",
        "output_format_json_quote_decimals",
        "output_format_json_quote_denormals",
        "output_format_write_statistics",
        "prefer_column_name_to_alias",
        "read_overflow_mode",
        "result_overflow_mode",
        "session_timezone",
        "timeout_overflow_mode",
        "transform_null_in",
    ]
)


def authenticate(
    settings: EngineSettings, headers: Mapping[str, str], parameters: Mapping[str, str]
) -> Account:
    """The account whose name and password the request carries.

    They come by HTTP Basic, by X-ClickHouse-User and X-ClickHouse-Key, or as user= and password=.
    Raises EngineError (AUTHENTICATION_FAILED) otherwise.
    """
    user = parameters.get("user", headers.get("x-clickhouse-user", "default"))
    password = parameters.get("password", headers.get("x-clickhouse-key", ""))
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = ""
    for account, name, secret in (
        (Account.WRITER, settings.writer_user, settings.writer_password),
        (Account.ANALYST, settings.analyst_user, settings.analyst_password),
    ):
        if _same(user, name) & _same(password, secret):
            return account
    raise EngineError(
        f"{user}: Authentication failed: password is incorrect, or there is no user with such name. "
        "(AUTHENTICATION_FAILED)",
        AUTHENTICATION_FAILED,
    )


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def analyst_database(settings: EngineSettings, request: QueryRequest) -> str:
    """Where an analyst's names without a database are looked up. Raises EngineError (ACCESS_DENIED)."""
    if request.database in ("", "default"):
        return settings.analyst_database
    if not settings.analysts_read(request.database):
        raise EngineError(
            f"Analysts read database {settings.analyst_database} and those of kept stores, "
            f"{settings.analyst_database}_NAME, not {request.database}. (ACCESS_DENIED)",
            ACCESS_DENIED,
        )
    return request.database


def analyst_settings(settings: EngineSettings, request: QueryRequest) -> dict[str, str]:
    """The settings of an analyst's statement: what the request asks for within the limits, then the limits.

    The engine itself is told `readonly`, so that it refuses writes, SET and table functions that reach out
    even if the check of the parsed query had a gap. Raises EngineError for any other setting, for a limit
    above the account's, and for external tables.
    """
    if request.external_tables:
        raise EngineError(
            "Analysts cannot send external tables: use a subquery or a CTE. (ACCESS_DENIED)", ACCESS_DENIED
        )
    limits = {
        "max_execution_time": settings.analyst_max_execution_s,
        "max_result_rows": settings.analyst_max_result_rows,
        "max_result_bytes": settings.analyst_max_result_bytes,
        "max_memory_usage": settings.analyst_max_memory_bytes,
    }
    chosen = {name: str(limit) for name, limit in limits.items()}
    for name, value in request.settings.items():
        if name in limits:
            chosen[name] = _within(name, value, limits[name])
        elif name in _FREE_SETTINGS:
            chosen[name] = value
        else:
            raise EngineError(
                f"Analysts cannot change setting {name}; they may set: "
                f"{', '.join(sorted(_FREE_SETTINGS | set(limits)))}. (ACCESS_DENIED)",
                ACCESS_DENIED,
            )
    return {**chosen, "readonly": "1"}


def _within(name: str, value: str, limit: int) -> str:
    try:
        ok = 0 < float(value) <= limit
    except ValueError:
        ok = False
    if not ok:
        raise EngineError(
            f"Setting {name} is {value!r}, expected a number above 0 and at most {limit}. "
            "(SETTING_CONSTRAINT_VIOLATION)",
            SETTING_CONSTRAINT_VIOLATION,
        )
    return value
