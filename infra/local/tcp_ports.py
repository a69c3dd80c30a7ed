"""TCP ports for stacks: chosen once, kept in the stack's directory, never the same for two of one user."""

import errno
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import psutil

from infra.local.spec import StackError, StackFiles, write_whole

#: Below Linux's range for outgoing connections (32768 and up): those could take a port between two starts.
_RANGE = range(20_000, 32_000)


def _registry() -> Path:
    """A folder that all stacks of this user share, so that two that are being set up at once do not meet."""
    folder = Path(tempfile.gettempdir()) / f"ratchet-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StackError(f"{folder} belongs to another user: remove it, or set TMPDIR")
    return folder


def _read(path: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise StackError(f"{path} is damaged ({error}): remove it to have ports chosen anew") from error


def _bind_error(port: int) -> OSError | None:
    with socket.socket() as probe:
        # As servers bind: without this, connections of an earlier owner that linger would count as an owner.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            # With SO_REUSEADDR two sockets may be bound to one port: only listening tells.
            probe.listen(1)
        except OSError as error:
            return error
    return None


def allocate_ports(
    directory: Path, names: Iterable[str], preferred: Mapping[str, int] | None = None
) -> dict[str, int]:
    """A port on 127.0.0.1 for each name, the same at every call for this directory.

    A name without a port yet gets its preferred one if that is free and no other stack's (running or not),
    else a random free one. Raises StackError if the directory cannot be written or no port is free.
    """
    files = StackFiles(directory)
    files.make()
    try:
        with (_registry() / "ports.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _allocate(files, tuple(names), preferred or {})
    except OSError as error:
        raise StackError(f"cannot choose ports for {files.directory}: {error}") from error


def _allocate(files: StackFiles, names: tuple[str, ...], preferred: Mapping[str, int]) -> dict[str, int]:
    list_path = _registry() / "stacks.json"
    try:
        stacks = msgspec.json.decode(list_path.read_bytes(), type=list[str])
    except (FileNotFoundError, msgspec.DecodeError):
        stacks = []
    others = {path for path in stacks if path != str(files.directory) and StackFiles(path).ports.exists()}
    taken = {port for path in others for port in _read(StackFiles(path).ports).values()}
    known = _read(files.ports)
    taken.update(known.values())
    for name in names:
        if name in known:
            continue
        candidates = [preferred[name]] if name in preferred else []
        candidates += random.sample(_RANGE, 200)
        chosen = next((port for port in candidates if port not in taken and _bind_error(port) is None), None)
        if chosen is None:
            raise StackError(f"no free port found for {name} between {_RANGE.start} and {_RANGE.stop}")
        known[name] = chosen
        taken.add(chosen)
    write_whole(files.ports, msgspec.json.encode(known))
    write_whole(list_path, msgspec.json.encode(sorted(others | {str(files.directory)})))
    return {name: known[name] for name in names}


def check_ports_free(ports: Mapping[str, int]) -> None:
    """Raises StackError, naming the port and its owner if known, unless every port can be listened on."""
    for name, port in ports.items():
        error = _bind_error(port)
        if error is None:
            continue
        if error.errno != errno.EADDRINUSE:
            raise StackError(f"port {port} for {name} cannot be used: {error.strerror}")
        raise StackError(
            f"port {port} for {name} is in use by {_owner(port)}: end that or choose another port"
        )


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections(kind="tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f"pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return "another program"
