"""A project: `ratchet.toml`, its data below `var/`, and the local stack's addresses and keys."""

from __future__ import annotations

import os
import secrets
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from api.settings import HttpSettings, Loaded, Settings, load_settings
from infra.local.spec import StackError, StackFiles, write_whole

#: The tenant that a local stack has from the start.
LOCAL_TENANT: Final = "default"
#: Hosts that mean every address of the machine: nobody can be reached under them.
_EVERY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104


class LocalSecrets(msgspec.Struct, frozen=True):
    """What a local stack made up for itself; readable by its owner only."""

    writer_password: str
    analyst_password: str
    api_key: str


class LocalPorts(msgspec.Struct, frozen=True):
    """Where a local stack listens."""

    kafka: int
    kafka_controller: int
    clickhouse: int
    api: int
    search: int
    streams: int
    learner: int
    #: 0 in a stack that was last started before there was this process.
    alerts: int = 0
    #: As of `alerts`.
    inbox: int = 0


def http_url(http: HttpSettings) -> str:
    """Where this machine reaches a process that listens there."""
    host = "127.0.0.1" if http.host in _EVERY_ADDRESS else http.host
    return f"http://[{host}]:{http.port}" if ":" in host else f"http://{host}:{http.port}"


class Project:
    """Everything that a command needs to know of where it works. Reads files only when asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "var"

    @property
    def files(self) -> StackFiles:
        """The local stack's files."""
        return StackFiles(self.data)

    @property
    def secrets_path(self) -> Path:
        """Passwords and keys of the local stack."""
        return self.files.private / "secrets.json"

    def make_secrets(self) -> LocalSecrets:
        """The local stack's secrets, made up once. Raises StackError if they cannot be kept."""
        self.files.make()
        if not self.secrets_path.exists():
            made = LocalSecrets(
                writer_password=secrets.token_urlsafe(24),
                analyst_password=secrets.token_urlsafe(24),
                api_key="rk_" + secrets.token_urlsafe(24),
            )
            try:
                write_whole(self.secrets_path, msgspec.json.encode(made))
                self.secrets_path.chmod(0o600)
            except OSError as error:
                raise StackError(f"cannot write {self.secrets_path}: {error.strerror}") from error
        return msgspec.json.decode(self.secrets_path.read_bytes(), type=LocalSecrets)

    def local_environment(self) -> dict[str, str]:
        """Settings of the local stack as variables; empty if none was ever started here."""
        if not (self.secrets_path.exists() and self.files.ports.exists()):
            return {}
        made = msgspec.json.decode(self.secrets_path.read_bytes(), type=LocalSecrets)
        ports = msgspec.json.decode(self.files.ports.read_bytes(), type=LocalPorts)
        return {
            "RATCHET_KAFKA__BOOTSTRAP": f"127.0.0.1:{ports.kafka}",
            "RATCHET_CLICKHOUSE__URL": f"http://127.0.0.1:{ports.clickhouse}",
            "RATCHET_CLICKHOUSE__PASSWORD": made.writer_password,
            "RATCHET_CLICKHOUSE__ANALYST_PASSWORD": made.analyst_password,
            "RATCHET_API__PORT": str(ports.api),
            "RATCHET_SEARCH_HTTP__PORT": str(ports.search),
            "RATCHET_STREAMS_HTTP__PORT": str(ports.streams),
            "RATCHET_LEARNER_HTTP__PORT": str(ports.learner),
            "RATCHET_ALERTS_HTTP__PORT": str(ports.alerts),
            "RATCHET_INBOX_HTTP__PORT": str(ports.inbox),
            f"RATCHET_TENANTS__{LOCAL_TENANT.upper()}__KEY": made.api_key,
        }

    @cached_property
    def loaded(self) -> Loaded:
        """Settings with their origins: defaults, the local stack, `ratchet.toml`, the environment."""
        return load_settings(self.directory, environ=os.environ, local=self.local_environment())

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.loaded.settings
