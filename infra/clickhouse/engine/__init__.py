"""The ClickHouse engine of one machine: chDB in one process, behind ClickHouse's own HTTP interface.

Every ordinary ClickHouse client can talk to it. `EngineSettings` says how it runs, `EngineApp` is the ASGI
application and `serve` runs it until SIGTERM. It is meant for a laptop and for tests; in production the same
clients talk to a ClickHouse server and none of this runs.
"""

from .app import EngineApp
from .errors import AddressInUse, DirectoryInUse, EngineError, EngineUnavailable
from .server import serve
from .settings import EngineSettings

__all__ = [
    "AddressInUse",
    "DirectoryInUse",
    "EngineApp",
    "EngineError",
    "EngineSettings",
    "EngineUnavailable",
    "serve",
]
