"""The key ring of a process: the keys of the settings, and those that the lifecycle has in force."""

from __future__ import annotations

from api.settings import Settings
from ingest.keys import DEFAULT_SCOPES, HashedKeys, IssuedKeys, key_hash


def key_ring(settings: Settings) -> IssuedKeys:
    """A key per tenant of the settings, and those issued; let it `take` what the lifecycle says.

    A tenant without any key can be sent to by nobody.
    """
    return IssuedKeys(
        HashedKeys(
            (name, key_hash(tenant.key), DEFAULT_SCOPES)
            for name, tenant in settings.tenants.items()
            if tenant.key
        )
    )
