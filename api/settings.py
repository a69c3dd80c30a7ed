"""One settings file, `ratchet.toml`, overridden by `RATCHET_<SECTION>__<KEY>`. An unknown key is an error."""

from __future__ import annotations

import difflib
import functools
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from api.alerts.settings import AlertSettings
from infra.settings import ArtifactSettings, ClickHouseSettings, KafkaSettings
from ingest.settings import IngestSettings
from learners.freeze.settings import FreezeSettings
from learners.settings import LearnerSettings, SearchSettings
from learners.watch.settings import WatchSettings
from schemas.errors import RatchetError
from schemas.topics import PLATFORM, TENANT_PATTERN
from streams.settings import StreamSettings

FILE_NAME: Final = "ratchet.toml"
ENV_PREFIX: Final = "RATCHET_"
#: `RATCHET_CLICKHOUSE__PASSWORD_FILE` names a file that holds `clickhouse.password`: secrets come as files.
FILE_SUFFIX: Final = "_file"
#: Variables with our prefix that are no settings: they say where and who, and are read before settings are.
RESERVED: Final = frozenset({"RATCHET_DIRECTORY", "RATCHET_KEY", "RATCHET_URL", "RATCHET_SEARCH_URL"})


class HttpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a process listens. Everything listens on 127.0.0.1 unless told otherwise."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="a local stack chooses its own")] = 0


class TenantSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant that exists from the start."""

    key: Annotated[str, Meta(description="API key with scopes send and read")] = ""
    mode: Annotated[Literal["propose", "auto"], Meta(description="how far the learner goes alone")] = (
        "propose"
    )
    ready_by: Annotated[
        Literal["search", "application"],
        Meta(
            description="who says that a version can serve: our search, or an application with its own index"
        ),
    ] = "search"


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the processes write to their logs."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="lines below it are left out")
    ] = "info"


class InboxSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events that applications write to Kafka themselves. Who may write a topic is the broker's business."""

    tenants: Annotated[
        tuple[str, ...],
        Meta(description="tenants whose topic `inbox.<tenant>` is read, and made if it is missing"),
    ] = ()
    partitions: Annotated[int, Meta(ge=1, description="of a topic that is made")] = 6
    instance: Annotated[
        str, Meta(description="static member id: a restarted process takes its partitions back at once")
    ] = "inbox-1"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings: a section a room."""

    kafka: KafkaSettings = KafkaSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    api: HttpSettings = HttpSettings(port=8000)
    search_http: HttpSettings = HttpSettings(port=8001)
    streams_http: HttpSettings = HttpSettings(port=8002)
    learner_http: HttpSettings = HttpSettings(port=8003)
    alerts_http: HttpSettings = HttpSettings(port=8004)
    inbox_http: HttpSettings = HttpSettings(port=8005)
    ingest: IngestSettings = IngestSettings()
    inbox: InboxSettings = InboxSettings()
    streams: StreamSettings = StreamSettings()
    search: SearchSettings = SearchSettings()
    watch: WatchSettings = WatchSettings()
    freeze: FreezeSettings = FreezeSettings()
    learner: LearnerSettings = LearnerSettings()
    tenants: dict[str, TenantSettings] = {}
    log: LogSettings = LogSettings()
    alerts: AlertSettings = AlertSettings()


class SettingsError(RatchetError):
    """A setting that does not exist or has a wrong value; the text names it, its origin and what to do."""


class Loaded(Struct, frozen=True):
    """Settings and, for every key that was set, where: a file or a variable."""

    settings: Settings
    origins: dict[str, str]

    def rows(self) -> Iterator[tuple[str, object, str]]:
        """(dotted key, value, origin) of every setting."""
        for key, value in _flatten("", msgspec.to_builtins(self.settings)):
            yield key, value, self.origins.get(key, "default")


def load_settings(
    directory: Path,
    environ: Mapping[str, str] = os.environ,
    *,
    local: Mapping[str, str] = MappingProxyType({}),
) -> Loaded:
    """Settings of the project in `directory`: defaults, then `local`, the file, and the environment.

    `local`: what a local stack chose for itself, under the names of variables. Raises SettingsError.
    """
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, value in local.items():
        _take_variable(tree, origins, name, value, "the local stack")
    path = directory / FILE_NAME
    if path.exists():
        try:
            written = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} is not TOML: {error}") from error
        for key, setting in _flatten("", written):
            _check_key(key, str(path))
            _put(tree, key, setting)
            origins[key] = str(path)
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in RESERVED:
            _take_variable(tree, origins, name, environ[name], f"the variable {name}")
    try:
        settings = msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        key = where.rstrip("`")
        origin = origins.get(key, str(path))
        raise SettingsError(f"{key or 'settings'} ({origin}): {text}") from error
    _check_tenants(settings.tenants, origins)
    for name in settings.inbox.tenants:
        if name not in settings.tenants:
            known = ", ".join(sorted(settings.tenants)) or "none"
            raise SettingsError(
                f"inbox.tenants ({origins['inbox.tenants']}): no tenant {name!r}; there are: {known}"
            )
    return Loaded(settings, origins)


def _check_tenants(tenants: Mapping[str, TenantSettings], origins: Mapping[str, str]) -> None:
    """Raises SettingsError for a name that no record can carry, and for a key that names two tenants."""
    owners: dict[str, str] = {}
    for name, tenant in tenants.items():
        if not TENANT_PATTERN.match(name):
            origin = next(origins[key] for key in origins if key.startswith(f"tenants.{name}."))
            raise SettingsError(
                f"tenants.{name} ({origin}): expected a name of 1–40 characters a-z, 0-9, '-'; rename it"
            )
        if name == PLATFORM:
            raise SettingsError(f"tenants.{name}: this name is of what concerns all tenants; take another")
        owner = owners.setdefault(tenant.key, name) if tenant.key else name
        if owner != name:
            raise SettingsError(
                f"tenants.{owner} and tenants.{name} have the same key: a key names one tenant; "
                "give each its own"
            )


def _check_key(key: str, origin: str) -> None:
    known = _known()
    generic = _generic(key)
    if generic in known or f"{generic}.*" in known:
        return
    near = difflib.get_close_matches(generic, [name.removesuffix(".*") for name in known], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; `ratchet config show` lists all settings"
    raise SettingsError(f"unknown setting {key!r} in {origin}{hint}")


def _generic(key: str) -> str:
    """`tenants.acme.key` → `tenants.<name>.key`."""
    parts = key.split(".")
    if parts[0] == "tenants" and len(parts) > 1:
        parts[1] = "<name>"
    return ".".join(parts)


@functools.cache
def _known() -> dict[str, object]:
    """Dotted key → type; a key that ends in `.*` is a table that is itself a setting."""
    return dict(_known_keys(Settings, ""))


def _known_keys(struct: type[Struct], prefix: str) -> Iterator[tuple[str, object]]:
    for field in msgspec.structs.fields(struct):
        annotation = field.type
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        if isinstance(annotation, type) and issubclass(annotation, Struct):
            yield from _known_keys(annotation, f"{prefix}{field.name}.")
        elif field.name == "tenants" and not prefix:
            yield from _known_keys(TenantSettings, "tenants.<name>.")
        elif get_origin(annotation) is dict:
            yield f"{prefix}{field.name}.*", annotation
        else:
            yield f"{prefix}{field.name}", annotation


def _env_value(key: str, text: str) -> object:
    """A list or table is written as JSON; everything else is text that its type reads."""
    known = _known()
    if f"{_generic(key)}.*" in known or str(known.get(_generic(key), "")).startswith(("tuple", "list")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise SettingsError(f"{key} from the environment must be JSON, got {text!r}") from error
    return text


def _take_variable(tree: dict[str, Any], origins: dict[str, str], name: str, text: str, origin: str) -> None:
    key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
    if key.endswith(FILE_SUFFIX):
        key, text = key.removesuffix(FILE_SUFFIX), _read_value(text, origin)
    _check_key(key, origin)
    _put(tree, key, _env_value(key, text))
    origins[key] = origin


def _read_value(path: str, origin: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{origin} names {path!r}, which cannot be read as text: {error}") from error


def _put(tree: dict[str, Any], key: str, value: object) -> None:
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _flatten(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    """(dotted key, value) of every leaf; a table that is itself a setting stays whole."""
    if isinstance(value, dict) and not _is_table_setting(prefix.removesuffix(".")):
        for name, inner in value.items():
            yield from _flatten(f"{prefix}{name}.", inner)
    else:
        yield prefix.removesuffix("."), value


def _is_table_setting(key: str) -> bool:
    return f"{key}.*" in _known()
