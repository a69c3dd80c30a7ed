"""The key ring of a process: the keys of the settings."""

from __future__ import annotations

from api.settings import Settings
from ingest.keys import DEFAULT_SCOPES, HashedKeys, key_hash


def key_ring(settings: Settings) -> HashedKeys:
    """A key per tenant; a tenant without a key can be sent to by nobody."""
    return HashedKeys(
        (name, key_hash(tenant.key), DEFAULT_SCOPES)
        for name, tenant in settings.tenants.items()
        if tenant.key
    )
