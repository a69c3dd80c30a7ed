"""JSON logs: one object a line, whoever logs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from api.logs import configure_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("http", "info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_structlog_and_logging_give_the_same_form(stream: io.StringIO) -> None:
    structlog.get_logger("ours").error("refused", event_id="e-1", query_id="q-1", tenant="acme")
    logging.getLogger("theirs").warning("took %d s", 3)
    ours, theirs = lines(stream)
    assert ours["message"] == "refused"
    assert (ours["event_id"], ours["query_id"], ours["tenant"]) == ("e-1", "q-1", "acme")
    assert (ours["level"], ours["logger"], ours["process"]) == ("error", "ours", "http")
    assert (theirs["message"], theirs["level"], theirs["process"]) == ("took 3 s", "warning", "http")
    assert theirs["time"].endswith("Z")


def test_an_exception_is_one_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("boom\nbang")
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    (entry,) = lines(stream)
    assert "ValueError: boom" in entry["exception"]


def test_levels_are_kept(stream: io.StringIO) -> None:
    structlog.get_logger("ours").debug("no")
    logging.getLogger("aiokafka").info("no")
    assert not stream.getvalue()
