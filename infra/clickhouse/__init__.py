"""ClickHouse as the analytical store: migrations, promised views, and the adapters of the streams' ports."""
