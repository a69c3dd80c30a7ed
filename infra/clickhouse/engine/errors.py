"""Errors of the engine process.

EngineUnavailable        the process cannot start: show the sentence, exit with a code other than 0
├── DirectoryInUse       another process has the directory open
└── AddressInUse         another process listens on the port
EngineError              one statement failed: ClickHouse's code and text, sent to the client
"""

import re
from typing import Final

_CODE: Final = re.compile(r"Code: (\d+)\.")

# ClickHouse's numbers for what this endpoint decides itself.
BAD_ARGUMENTS: Final = 36
NOT_IMPLEMENTED: Final = 48
SYNTAX_ERROR: Final = 62
UNKNOWN_COMPRESSION_METHOD: Final = 89
READONLY: Final = 164
TOO_MANY_SIMULTANEOUS_QUERIES: Final = 202
NOT_ENOUGH_SPACE: Final = 243
CANNOT_DECOMPRESS: Final = 271
LIMIT_EXCEEDED: Final = 290
SUPPORT_IS_DISABLED: Final = 344
SESSION_NOT_FOUND: Final = 372
SESSION_IS_LOCKED: Final = 373
QUERY_WAS_CANCELLED: Final = 394
SETTING_CONSTRAINT_VIOLATION: Final = 452
ACCESS_DENIED: Final = 497
AUTHENTICATION_FAILED: Final = 516
UNKNOWN_EXCEPTION: Final = 1002

# As a ClickHouse server answers; everything else is 500.
_STATUS: Final = {
    **dict.fromkeys((27, 33, 36, 38, 41, 53, 62, 72, 89, 115, 117, 271, 452, 457), 400),
    **dict.fromkeys((192, 193, 497, 516), 403),
    **dict.fromkeys((46, 47, 60, 81), 404),
    **dict.fromkeys((158, 290), 413),
    48: 501,
    159: 408,
    194: 401,
    202: 503,
}


class EngineUnavailable(Exception):
    """The engine cannot start; the message is one sentence for the person who started it."""


class DirectoryInUse(EngineUnavailable):
    """Another process has the engine's directory open.

    Fields: path; holder, the other process as its status file names it, or "".
    """

    def __init__(self, path: str, holder: str) -> None:
        by = f" (process {holder})" if holder else ""
        super().__init__(
            f"The engine's directory {path} is in use by another process{by}: "
            "stop it or use another directory."
        )
        self.path, self.holder = path, holder


class AddressInUse(EngineUnavailable):
    """The engine cannot listen on host:port."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"The engine cannot listen on {host}:{port} ({reason}): "
            "stop what listens there or use another port."
        )
        self.host, self.port = host, port


class EngineError(Exception):
    """A statement failed, or was refused. `code` is ClickHouse's error number; `str()` is its usual text.

    `partial` is what the answer had already produced when it failed in the middle.
    """

    def __init__(self, message: str, code: int | None = None, *, partial: bytes = b"") -> None:
        found = _CODE.search(message)
        self.code = code if code is not None else int(found.group(1)) if found else UNKNOWN_EXCEPTION
        text = message[found.start() :] if found else f"Code: {self.code}. DB::Exception: {message}"
        super().__init__(text)
        self.partial = partial

    @property
    def status(self) -> int:
        """The HTTP status that a ClickHouse server gives this error."""
        return _STATUS.get(self.code, 500)
