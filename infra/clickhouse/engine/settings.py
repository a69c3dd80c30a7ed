"""How the engine process runs: plain values, loaded elsewhere."""

import re
from typing import Final

import msgspec

#: What may follow `<analyst_database>_`: a store that was kept beside, and neither storage (`store…`) nor the
#: views of a rebuild that is not finished (`next`).
_KEPT: Final = re.compile(r"_(?!next\Z|store)[a-z][a-z0-9_]{0,31}\Z")


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one engine process. Two processes cannot share `path`.

    Raises ValueError where the values contradict each other.
    """

    #: Directory that holds the tables; it is made if it is missing.
    path: str
    host: str = "127.0.0.1"
    port: int = 8123

    #: The account that may do everything, reading files of this machine through SQL included.
    writer_user: str = "ratchet"
    writer_password: str
    #: The account that may run one SELECT at a time over the promised views.
    analyst_user: str = "analyst"
    analyst_password: str
    #: The database that analysts read; beside it those of stores that are kept, `<analyst_database>_<name>`.
    analyst_database: str = "ratchet"

    #: Statements that run at once; more are refused with TOO_MANY_SIMULTANEOUS_QUERIES, which clients retry.
    max_queries: int = 32
    #: Of these, at most so many for analysts, so that reports cannot hold up the writer.
    max_analyst_queries: int = 8
    #: Largest request body, after decompression.
    max_body_bytes: int = 256 << 20
    #: So much of an answer is held back before the headers go out: an error within it gets its HTTP status.
    response_buffer_bytes: int = 1 << 20
    #: Memory of all statements together; beyond it the engine refuses (MEMORY_LIMIT_EXCEEDED).
    max_server_memory_bytes: int = 2_000_000_000
    #: Room on the disk below which nothing is inserted: chDB does not tell of a write that fails.
    min_free_bytes: int = 64 << 20
    #: Threads for merges and other background work.
    background_threads: int = 2
    #: How long running statements may go on after SIGTERM before they are killed.
    drain_s: float = 10.0

    analyst_max_execution_s: int = 60
    analyst_max_result_rows: int = 5_000_000
    analyst_max_result_bytes: int = 512 << 20
    analyst_max_memory_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        if self.writer_user == self.analyst_user:
            raise ValueError(
                f"writer_user and analyst_user are both {self.writer_user!r}: give them two names"
            )
        for name in ("writer_user", "writer_password", "analyst_user", "analyst_password"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: set it, the engine has no open accounts")
        if self.max_queries < 1 or not 1 <= self.max_analyst_queries <= self.max_queries:
            raise ValueError(
                "expected 1 <= max_analyst_queries <= max_queries, "
                f"got {self.max_analyst_queries} and {self.max_queries}"
            )

    def analysts_read(self, database: str) -> bool:
        """Whether views of `database` are promised to analysts: the living ones, or those of a kept store."""
        promised = self.analyst_database
        return database == promised or (
            database.startswith(promised) and _KEPT.match(database, len(promised)) is not None
        )

    def __repr__(self) -> str:
        """Leaves the passwords out, so that settings may be logged."""
        return f"EngineSettings(path={self.path!r}, host={self.host!r}, port={self.port})"
