"""`ratchet rejected`: what was refused and still stands: why, mend it, send it again, give it up."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec
from msgspec.structs import replace
from rich.console import Console

from api.cli.door import known_tenant, tenant_option
from api.cli.lifecycle import command_line, followed, person_source
from api.cli.project import Project
from api.cli.rejected_options import filter_options, mend_options
from api.cli.rejected_text import print_diff, print_entry, print_list, print_results, print_stats
from api.cli.store import VISIBLE_S
from api.http.ports import Side
from api.processes.identity import code_version, now
from api.replaying import Replaying, Wanted, describe_entry
from ingest.mending import Mend
from ingest.replay import Attempt, Discarded, Person, Replayed, Replays, Trial, told
from schemas.rejections import CONFLICT, EntryFilter, RejectedEntry

if TYPE_CHECKING:
    from infra.clickhouse.rejected import AnalystRejected

_T = TypeVar("_T")
_CLI_DOOR: Final = "cli"
_SIDES: Final[tuple[Side, ...]] = ("reason", "source", "door", "type", "day")
_COUNTED: Final = 50
_LOOKED_FOR: Final = 200
_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_all_option = click.option("--all", "everything", is_flag=True, help="All that stand, without a filter.")
_limit_option = click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="At most so many."
)
_new_id_option = click.option("--new-id", is_flag=True, help="As an event of its own: a conflict needs that.")
_dry_option = click.option("--dry-run", is_flag=True, help="Only say what would pass, and why the rest not.")


@click.group()
def rejected() -> None:
    """What was refused and still stands: why, how to mend it, and sending it again.

    Nothing that came in with a key is lost: what could not be accepted, folded or stored is kept with its
    bytes. A replay keeps the event's source and id, so it counts once, however often it is sent.
    """


@rejected.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="The latest.")
@tenant_option
@_json_option
@click.pass_obj
def list_entries(project: Project, chosen: EntryFilter, limit: int, tenant: str, as_json: bool) -> None:
    """Entries that stand, the latest first."""
    found = _read(project, tenant, lambda store: store.entries(tenant, chosen, limit + 1))
    if as_json:
        _print_json(found[:limit])
        return
    print_list(_console(), found[:limit], more=len(found) > limit)


@rejected.command()
@click.argument("entry")
@tenant_option
@_json_option
@click.pass_obj
def show(project: Project, entry: str, tenant: str, as_json: bool) -> None:
    """Why ENTRY was refused, what came, and what to do next. The first 8 letters of its id are enough."""

    async def look(store: AnalystRejected) -> tuple[RejectedEntry, bytes, bytes | None] | Replayed:
        replaying = _replaying(project, tenant, store)
        found = await replaying.named([entry])
        originals = await store.originals(tenant, [found[0].entry_id]) if found else {}
        if not originals:
            return (await replaying.not_standing([entry]) or [Replayed(entry_id=entry, status="unknown")])[0]
        one, standing = found[0], None
        if one.reason == CONFLICT:
            name = one.subject, one.event_source, one.event_id
            standing = (await store.stored(tenant, [name])).get(name)
        return one, originals[one.entry_id], None if standing is None else standing[1]

    found = _read(project, tenant, look)
    if isinstance(found, Replayed):
        if as_json:
            _print_json(found)
        else:
            print_results(_console(), [found], dry_run=False)
        sys.exit(0 if found.status == "answered" else 1)
    one, original, standing = found
    if as_json:
        _print_json(describe_entry(one, original))
    else:
        print_entry(_console(), one, original, standing, tenant)


@rejected.command()
@filter_options
@tenant_option
@_json_option
@click.pass_obj
def stats(project: Project, chosen: EntryFilter, tenant: str, as_json: bool) -> None:
    """Entries by reason, source, door, type and day."""

    async def count(store: AnalystRejected) -> dict[str, Any]:
        return {side: await store.counts(tenant, chosen, side, _COUNTED) for side in _SIDES}

    counted = _read(project, tenant, count)
    if as_json:
        _print_json(counted)
    elif not counted["reason"]:
        print_list(_console(), [], more=False)
    else:
        print_stats(_console(), counted)


@rejected.command()
@click.argument("entry")
@mend_options
@_new_id_option
@_dry_option
@tenant_option
@_json_option
@click.pass_obj
def fix(
    project: Project, entry: str, mend: Mend, new_id: bool, dry_run: bool, tenant: str, as_json: bool
) -> None:
    """Mend ENTRY and send it again; what changes is shown, and nothing is sent that would not pass."""
    if mend.empty:
        raise click.UsageError("say what to change (--set, --rename, --drop, --patch, --mapping, --with)")
    console = _console()

    async def run(store: AnalystRejected) -> tuple[list[Attempt], list[Replayed]]:
        wanted = Wanted(ids=(entry,))
        replaying = _replaying(project, tenant, store)
        gone = await replaying.not_standing([entry])
        attempts = await _flat(replaying.attempts(wanted, mend, new_id)) if not gone else []
        if dry_run or gone or any(one.why is not None for one in attempts):
            return attempts, [*gone, *map(told, attempts)]
        async with _writing(project, tenant, store) as writing:
            return attempts, await _flat(writing.replay(wanted, mend, new_id))

    attempts, results = _read(project, tenant, run)
    if not as_json:
        for one in attempts:
            print_diff(console, one)
    _finish(project, tenant, results, dry_run=dry_run, as_json=as_json)


@rejected.command("replay")
@click.argument("entries", nargs=-1, metavar="[ENTRY]...")
@filter_options
@mend_options
@_all_option
@_limit_option
@_new_id_option
@_dry_option
@tenant_option
@_json_option
@click.pass_obj
def replay_entries(
    project: Project,
    entries: Sequence[str],
    chosen: EntryFilter,
    mend: Mend,
    everything: bool,
    limit: int,
    new_id: bool,
    dry_run: bool,
    tenant: str,
    as_json: bool,
) -> None:
    """Send entries again, as they are or mended: those named, or those that pass the filter.

    Each keeps its source and id and gets a new received time; what would not pass is not sent and stays.
    Exit code 1 if any did not pass. Running it again changes nothing.
    """
    wanted = _wanted(entries, chosen, everything, limit)

    async def run(store: AnalystRejected) -> list[Replayed]:
        gone = await _replaying(project, tenant, store).not_standing(wanted.ids) if wanted.ids else []
        standing = replace(
            wanted,
            ids=tuple(id_ for id_ in wanted.ids if not any(one.entry_id.startswith(id_) for one in gone)),
        )
        if wanted.ids and not standing.ids:
            return gone
        if dry_run:
            replaying = _replaying(project, tenant, store)
            return [*gone, *await _flat(replaying.would_replay(standing, mend, new_id))]
        async with _writing(project, tenant, store) as writing:
            return [*gone, *await _flat(writing.replay(standing, mend, new_id))]

    _finish(project, tenant, _read(project, tenant, run), dry_run=dry_run, as_json=as_json)


@rejected.command()
@click.argument("entries", nargs=-1, metavar="[ENTRY]...")
@filter_options
@click.option("--because", required=True, metavar="TEXT", help="Why they are given up; kept with the step.")
@_all_option
@_limit_option
@_dry_option
@tenant_option
@_json_option
@click.pass_obj
def discard(
    project: Project,
    entries: Sequence[str],
    chosen: EntryFilter,
    because: str,
    everything: bool,
    limit: int,
    dry_run: bool,
    tenant: str,
    as_json: bool,
) -> None:
    """Give entries up: they no longer show, also if the same bytes come again. The log keeps them."""
    wanted = _wanted(entries, chosen, everything, limit)

    async def run(store: AnalystRejected) -> list[Discarded]:
        if dry_run:
            if wanted.ids:
                found = await _replaying(project, tenant, store).named(wanted.ids)
                return [Discarded(one.entry_id, True) for one in found]
            return [Discarded(id_, True) for id_, _ in await store.lengths(tenant, chosen, limit)]
        async with _writing(project, tenant, store) as writing:
            return await _flat(writing.discard(wanted, because))

    done = _read(project, tenant, run)
    given_up = [one.entry_id for one in done if one.confirmed]
    if not dry_run:
        _wait_gone(project, tenant, given_up)
    if as_json:
        _print_json({"discarded": [] if dry_run else given_up, "would_discard": given_up if dry_run else []})
    else:
        click.echo(f"{len(given_up):,} entr{'y' if len(given_up) == 1 else 'ies'} ", nl=False)
        click.echo("would be discarded; nothing was written" if dry_run else "discarded")
    if len(given_up) < len(done) or (wanted.ids and not done):
        click.echo("not confirmed: run the same command again" if done else "no such entry stands", err=True)
        sys.exit(1)


def _wanted(entries: Sequence[str], chosen: EntryFilter, everything: bool, limit: int) -> Wanted:
    """What a command is about. Raises click.UsageError unless it says so in one way."""
    if sum((bool(entries), not chosen.empty, everything)) != 1:
        raise click.UsageError("name entries, or give a filter, or say --all: one of them")
    return Wanted(ids=tuple(dict.fromkeys(entries)), filter=chosen, limit=limit)


def _finish(
    project: Project, tenant: str, results: Sequence[Replayed], *, dry_run: bool, as_json: bool
) -> None:
    """Wait until what was sent shows, print what became of each, and exit."""
    sent = [one.entry_id for one in results if one.status == "replayed"]
    visible = _wait_gone(project, tenant, sent)
    if as_json:
        _print_json({"dry_run": dry_run, "entries": results})
    else:
        print_results(_console(), results, dry_run=dry_run)
        if not results:
            click.echo("Nothing that passes the filter stands in `rejected`.")
        elif sent and not visible:
            click.echo(
                "Acknowledged; the worker has not stored all of it yet (`ratchet status` shows its lag)."
            )
        elif dry_run:
            click.echo("Nothing was sent.")
    failed = any(one.status in ("would_fail", "unconfirmed", "unknown") for one in results)
    sys.exit(1 if failed else 0)


def _wait_gone(project: Project, tenant: str, ids: Sequence[str]) -> bool:
    """Wait a few seconds until the last of these entries no longer stand; whether that came true."""
    if not ids:
        return True

    async def wait(store: AnalystRejected) -> bool:
        deadline_s = time.monotonic() + VISIBLE_S
        while await store.named(tenant, ids[-_LOOKED_FOR:]):
            if time.monotonic() > deadline_s:
                return False
            await asyncio.sleep(0.2)
        return True

    return _read(project, tenant, wait)


def _read(project: Project, tenant: str, ask: Callable[[AnalystRejected], Awaitable[_T]]) -> _T:
    """The answer of `ask` over the store of this project. Raises click.UsageError for an unknown tenant."""
    from infra.clickhouse.rejected import AnalystRejected

    known_tenant(project.settings, tenant)

    async def run() -> _T:
        async with AnalystRejected(project.settings.clickhouse, timeout_s=120.0) as store:
            return await ask(store)

    return asyncio.run(run())


def _replaying(
    project: Project, tenant: str, store: AnalystRejected, replays: Replays | None = None
) -> Replaying:
    person = Person(person_source(), command_line(), _CLI_DOOR)
    trial = Trial(project.settings.ingest)
    return Replaying(store, trial, tenant=tenant, now=now, person=person, replays=replays)


@asynccontextmanager
async def _writing(project: Project, tenant: str, store: AnalystRejected) -> AsyncIterator[Replaying]:
    """As `_replaying`, with the log: behind the gate, as every door is."""
    from infra.kafka.gate import GatedEventLog
    from infra.kafka.producer import KafkaEventLog

    settings = project.settings
    async with AsyncExitStack() as stack:
        tail, history = await stack.enter_async_context(followed(settings, tenant))
        await history()
        log = await stack.enter_async_context(
            KafkaEventLog(
                settings.kafka.bootstrap,
                deadline_s=settings.ingest.deadline_s,
                max_in_flight_bytes=settings.ingest.max_in_flight_bytes,
                client_id="ratchet-replay",
            )
        )
        replays = Replays(GatedEventLog(log, tail), settings.ingest, code_version=code_version())
        yield _replaying(project, tenant, store, replays)


async def _flat(portions: AsyncIterator[list[_T]]) -> list[_T]:
    return [one async for portion in portions for one in portion]


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
