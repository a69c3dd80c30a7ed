"""What chaos is made with: a stack of its own, and how its doors are reached."""

from __future__ import annotations

from msgspec import Struct

from infra.local.spec import ProcessSpec, StackError, StackSpec


class ChaosError(StackError):
    """Chaos cannot go on; the message is one sentence for the person who asked."""


class Scene(Struct, frozen=True, kw_only=True):
    """A scratch stack. Its worker reaches the store through a proxy, so that this can be made slow."""

    stack: StackSpec
    tenant: str
    api_url: str
    api_key: str
    #: The analysts' account, through the proxy.
    store_url: str
    analyst_user: str
    analyst_password: str
    #: Where the proxy listens, and where the engine does.
    proxy_port: int
    engine_port: int
    #: A worker beside the stack's own, under another static member id.
    second_worker: ProcessSpec
    #: `ratchet -C SCRATCH`.
    command: tuple[str, ...]
    #: After this long without a heartbeat a worker loses its partitions.
    session_timeout_s: float

    def process(self, name: str) -> ProcessSpec:
        """A process of the stack by its name."""
        return next(process for process in self.stack.processes if process.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """The processes of the stack."""
        return tuple(process.name for process in self.stack.processes)
