"""The ClickHouse engine of a local stack, behind ClickHouse's HTTP interface."""

from __future__ import annotations

from urllib.parse import urlsplit

from api.processes.boot import Place, run_process
from api.settings import Settings


async def main(settings: Settings, place: Place) -> None:
    """Open `var/clickhouse` and answer until SIGTERM."""
    from infra.clickhouse.engine.server import serve
    from infra.clickhouse.engine.settings import EngineSettings

    store = settings.clickhouse
    address = urlsplit(store.url)
    await serve(
        EngineSettings(
            path=str(place.data / "clickhouse"),
            host=address.hostname or "127.0.0.1",
            port=address.port or 8123,
            writer_user=store.user,
            writer_password=store.password,
            analyst_user=store.analyst_user,
            analyst_password=store.analyst_password,
        )
    )


if __name__ == "__main__":
    run_process("clickhouse", main)
