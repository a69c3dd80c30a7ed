"""JSON logs: one object a line on stderr, whoever logs (structlog or the standard library).

An error that concerns an event names it: pass `event_id=` and `query_id=` (and `tenant=`) to the logger.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

#: Libraries that say at `info` what is of no use to an operator.
_NOISY: Final = ("aiokafka", "httpx", "httpcore", "clickhouse_connect")

_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
)


def _dump(entry: EventDict, **_: object) -> str:
    return msgspec.json.encode(entry, enc_hook=str).decode()


def configure_logs(process: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stderr) as JSON with time, level, process and logger.

    Replaces what was configured before.
    """

    def name_process(_logger: object, _method: str, entry: EventDict) -> EventDict:
        entry["process"] = process
        return entry

    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, name_process],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(serializer=_dump),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            name_process,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
