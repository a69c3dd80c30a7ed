"""`ratchet backup` and `ratchet restore`: the log, artifacts and configuration in one directory, and back."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console

from api.cli.progress import Show, counted_steps
from api.cli.project import Project
from api.cli.worker_pause import committed_when_stopped, log_and_store
from infra.local import stack
from infra.local.spec import write_whole
from schemas.errors import Fatal

if TYPE_CHECKING:
    from infra.backup.manifest import Manifest
    from infra.backup.reader import BackupLogReader

#: Kinds of files beside the log.
_ARTIFACTS: Final = "artifacts"
_SETTINGS: Final = "project/ratchet.toml"
_SECRETS: Final = "private/secrets.json"
_ELSEWHERE_HELP: Final = "Kafka and ClickHouse run elsewhere: nothing of this directory is started."


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--without-secrets",
    is_flag=True,
    help="Leave out ratchet.toml, and the stack's passwords and keys.",
)
@click.option("--elsewhere", is_flag=True, help=_ELSEWHERE_HELP)
@click.pass_obj
def backup(project: Project, directory: Path, without_secrets: bool, elsewhere: bool) -> None:
    """Save the log as it is now, artifacts and configuration into DIRECTORY, which must be empty.

    All goes on meanwhile; what comes after the offsets that are printed is not in the backup. Tables are not
    saved: they follow from the log. Everything written is readable by its owner only.
    """
    console = Console(stderr=True, highlight=False)
    with log_and_store(project, console, run_elsewhere=elsewhere), counted_steps(console) as show:
        manifest = asyncio.run(_backup(project, directory, show, with_secrets=not without_secrets))
    click.echo(_describe(manifest, directory))
    if without_secrets:
        click.echo("left out: ratchet.toml, passwords and keys; `ratchet up` makes new ones after a restore")


async def _backup(project: Project, directory: Path, show: Show, *, with_secrets: bool) -> Manifest:
    from infra.backup.save import finish, make_directory, save_files, save_log
    from infra.clickhouse.connection import open_client
    from infra.clickhouse.migrate import load_migrations
    from infra.kafka.log import KafkaLogReader
    from infra.local.broker import COORDINATES
    from schemas.topics import TOPICS
    from streams.fold import FOLD_VERSION

    settings = project.settings
    reader = KafkaLogReader(settings.kafka.bootstrap)
    # in this order: the worker is never further than the log, and artifacts come before what names them
    committed = await committed_when_stopped(
        settings.kafka.bootstrap, settings.streams, ask_whether_stopped=False
    )
    ends = {topic.name: await reader.end_offsets(topic.name) for topic in TOPICS}
    make_directory(directory)
    log = await save_log(reader, ends, directory, show)
    artifacts = project.data / settings.artifacts.directory
    files = {
        f"{_ARTIFACTS}/{path.relative_to(artifacts).as_posix()}": path
        for path in artifacts.rglob("*")
        if path.is_file()
    }
    if with_secrets:
        private = {_SETTINGS: project.directory / "ratchet.toml", _SECRETS: project.secrets_path}
        files |= {name: path for name, path in private.items() if path.is_file()}
    client = await asyncio.to_thread(open_client, settings.clickhouse)
    engine = str(client.server_version)
    client.close()
    return finish(
        directory,
        made_at=dt.datetime.now(dt.UTC),
        versions={
            "ratchet": metadata.version("ratchet-platform"),
            "fold": str(FOLD_VERSION),
            "migration": str(load_migrations()[-1].number),
            "engine": engine,
            "kafka": COORDINATES.split("+")[0],
        },
        log=log,
        committed=committed,
        files=save_files(files, directory),
        with_secrets=with_secrets,
    )


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--elsewhere", is_flag=True, help=_ELSEWHERE_HELP)
@click.pass_obj
def restore(project: Project, directory: Path, elsewhere: bool) -> None:
    """Fill an empty stack from the backup in DIRECTORY, then build the tables.

    Every record gets the partition and offset that it had. Refused if the log holds anything, or the stack
    runs; one that was interrupted is gone on with. Files that are there already stay as they are: they are
    named. Afterwards `ratchet up` goes on where the backup ended.
    """
    from infra.backup.reader import BackupLogReader

    console = Console(stderr=True, highlight=False)
    if not elsewhere and stack.status(project.data).supervisor_pid is not None:
        raise Fatal("a stack runs here: `ratchet down` first; its worker would read what is only half there")
    source = BackupLogReader.open(directory)
    for kept in _restore_files(project, directory, source.manifest):
        console.print(f"[dim]kept as it is: {kept}[/]")
    with log_and_store(project, console, run_elsewhere=elsewhere), counted_steps(console) as show:
        asyncio.run(_restore(project, directory, source, show))
    click.echo(f"restored {_describe(source.manifest, directory)}")


async def _restore(project: Project, directory: Path, source: BackupLogReader, show: Show) -> None:
    from infra.backup.records import hash_file
    from infra.clickhouse.beside import ClickHouseStoreBeside
    from infra.clickhouse.connection import living, open_client
    from infra.kafka.log import KafkaLogReader, ensure_topics
    from infra.kafka.refill import commit_as, match_partitions, refill, saved_times
    from streams.rebuild import rebuild

    settings, manifest = project.settings, source.manifest
    reader = KafkaLogReader(settings.kafka.bootstrap)
    await ensure_topics(settings.kafka)
    ends = manifest.ends()
    await match_partitions(settings.kafka.bootstrap, ends)
    there = {topic: await reader.end_offsets(topic) for topic in ends}
    # says that what is in the log came from this backup
    mark, name = project.data / "restoring", hash_file(directory / "manifest.json")
    if any(any(offsets.values()) for offsets in there.values()) and not (
        mark.exists() and mark.read_text() == name
    ):
        held = {topic: sum(offsets.values()) for topic, offsets in there.items() if any(offsets.values())}
        raise Fatal(
            f"expected an empty log, but it holds records ({_counts(held)}): into a directory without var/, "
            "or an empty broker"
        )
    project.data.mkdir(parents=True, exist_ok=True)
    write_whole(mark, name.encode())
    async with saved_times(settings.kafka.bootstrap, ends):
        for topic, offsets in ends.items():
            already = sum(there[topic].values())

            def tell(
                done: int, topic: str = topic, before: int = already, of: int = sum(offsets.values())
            ) -> None:
                show(f"restore {topic}", before + done, of)

            await refill(settings.kafka.bootstrap, source, topic, offsets, tell)
    client = await asyncio.to_thread(open_client, settings.clickhouse, timeout_s=600.0)
    try:
        await rebuild(
            reader,
            ClickHouseStoreBeside(client, living(settings.clickhouse)),
            _WorkerOf(manifest),
            settings.streams,
            progress=show,
            accept_difference=True,  # with the tables of an empty stack
        )
    finally:
        client.close()
    await commit_as(settings.kafka.bootstrap, settings.streams.group, manifest.committed)
    mark.unlink()


class _WorkerOf:
    """`PausableWorker`: the one that had come so far when the backup was made, and does not run now."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    async def committed(self) -> dict[str, dict[int, int]]:
        return self._manifest.committed

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[dict[str, dict[int, int]]]:
        yield self._manifest.committed


def _restore_files(project: Project, directory: Path, manifest: Manifest) -> list[Path]:
    """Put files where they belong, settings first: they say where. Those that are there and differ."""
    places = {_SETTINGS: project.directory / "ratchet.toml", _SECRETS: project.secrets_path}
    kept = []
    for one in sorted(manifest.files, key=lambda file: file.path not in places):
        kind, _, name = one.path.partition("/")
        place = places.get(one.path)
        if place is None and kind == _ARTIFACTS:
            place = project.data / project.settings.artifacts.directory / name
        if place is None:
            raise Fatal(f"the backup holds {one.path!r}, which this version does not know: use a newer one")
        source = directory / "files" / one.path
        if place.exists():
            if place.read_bytes() != source.read_bytes():
                kept.append(place)
            continue
        if one.path == _SECRETS:
            project.files.make()
        place.parent.mkdir(parents=True, exist_ok=True)
        if one.path in places:
            place.touch(mode=0o600)
        shutil.copyfile(source, place)
        project.__dict__.pop("loaded", None)  # settings may have come
    return kept


def _describe(manifest: Manifest, directory: Path) -> str:
    records = sum(file.records for files in manifest.log.values() for file in files.values())
    topics = _counts({t: sum(file.end for file in files.values()) for t, files in manifest.log.items()})
    return (
        f"{directory}: {records:,} records ({topics}), {len(manifest.files)} files, made "
        f"{manifest.made_at:%Y-%m-%d %H:%M:%S} UTC by {manifest.versions.get('ratchet', '?')}"
    )


def _counts(of: dict[str, int]) -> str:
    return ", ".join(f"{topic} {count:,}" for topic, count in of.items())
