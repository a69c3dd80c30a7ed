"""What all tests share: services are blocked unless marked, and one real broker for those that need one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import promtool
from tests.live_services import running_kafka

# How fast examples are made says how busy the machine is, not whether the code is right.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_report_header() -> str:
    """Which tools of others the tests found."""
    return promtool.report()


@pytest.fixture(autouse=True)
def _no_services_unless_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test without the marker `service` that opens a connection, or listens, fails."""
    if request.node.get_closest_marker("service") is not None:
        return

    def refuse(_socket: socket.socket, address: Any, *_: Any) -> None:
        raise AssertionError(f"this test is not marked `service`, but it uses the network: {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real broker, shared by the session: tests keep apart by their tenants."""
    with running_kafka(tmp_path_factory.mktemp("broker")) as settings:
        yield settings.bootstrap
