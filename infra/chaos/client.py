"""An application that keeps books: `python -P -m infra.chaos.client '<json>'`, until SIGTERM.

It sends single events and batches, again with the same ids until they are confirmed (or gives up, sometimes),
repeats what was confirmed long ago, contradicts itself, rates late and early, retracts, and sends nonsense.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx
import msgspec
from msgspec import Struct

from infra.chaos import events
from infra.chaos.events import Made
from infra.chaos.ledger import Ledger

#: Older queries than these are left alone.
_REMEMBERED: Final = 400
_GIVES_UP: Final = 0.1
#: After SIGTERM what is under way gets this long to be confirmed.
_FINISH_S: Final = 90.0


class ClientPlan(Struct, frozen=True, kw_only=True):
    """What a client process is told."""

    url: str
    key: str
    source: str
    seed: int
    ledger: str
    events_per_s: float
    #: Requests at a time.
    hands: int = 3


class Client:
    """Makes events and sees them through."""

    def __init__(self, plan: ClientPlan, http: httpx.AsyncClient) -> None:
        self._plan = plan
        self._http = http
        self._dice = random.Random(plan.seed)
        self._ledger = Ledger(Path(plan.ledger))
        self._requests = 0
        self._queries: list[str] = []
        self._numbers: dict[str, int] = {}
        self._made: list[Made] = []
        #: Queries whose feedback went out before them.
        self._owed: list[str] = []
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Until told to stop; then the queries that are still owed are asked."""
        await asyncio.gather(*(self._work() for _ in range(self._plan.hands)))
        while self._owed:
            await self._send([self._ask(self._owed.pop())])

    async def _work(self) -> None:
        while not self.stopping.is_set():
            batch = self._next_events()
            began = asyncio.get_running_loop().time()
            await self._send(batch)
            took_s = asyncio.get_running_loop().time() - began
            pause_s = len(batch) * self._plan.hands / self._plan.events_per_s - took_s
            await asyncio.sleep(max(0.0, pause_s))

    def _next_events(self) -> list[Made]:
        dice, source = self._dice, self._plan.source
        roll = dice.random()
        old = dice.choice(self._queries) if self._queries else None
        made: list[Made]
        if old is None or roll < 0.25:
            made = self._search(self._new_query())
        elif roll < 0.45:
            made = [event for _ in range(dice.randint(2, 12)) for event in self._search(self._new_query())]
        elif roll < 0.65:
            made = [self._rate(old)]
        elif roll < 0.72:
            query_id = self._new_query()
            self._owed.append(query_id)
            made = [self._rate(query_id)]
        elif roll < 0.80 and self._owed:
            made = [self._ask(self._owed.pop(0))]
        elif roll < 0.88:
            made = dice.sample(self._made, k=min(len(self._made), dice.randint(1, 20)))
        elif roll < 0.92:
            made = [events.contradict(dice.choice(self._made), source, _now())]
        elif roll < 0.96:
            rated = [m for m in self._made if m.sent.type == events.FEEDBACK]
            made = [events.retract(source, dice.choice(rated).sent, _now())] if rated else [self._rate(old)]
        else:
            made = [events.spoil(self._rate(old), dice)]
            if dice.random() < 0.5:
                made += self._search(self._new_query())
        self._made = [*self._made, *(m for m in made if m.sent.hash)][-_REMEMBERED:]
        return made

    def _new_query(self) -> str:
        stamp = int(_now().timestamp() * 1000)
        # time-ordered, as UUIDv7 are, or random, as many applications make them
        head = f"{stamp:013d}" if self._dice.random() < 0.5 else f"{self._dice.randrange(10**13):013d}"
        query_id = f"{head}-{self._dice.getrandbits(40):010x}"
        self._queries = [*self._queries, query_id][-_REMEMBERED:]
        return query_id

    def _search(self, query_id: str) -> list[Made]:
        made = [self._ask(query_id), events.serve(self._plan.source, query_id, _now(), self._dice)]
        if self._dice.random() < 0.3:
            made.append(events.reply(self._plan.source, query_id, _now(), self._dice))
        if self._dice.random() < 0.5:
            made.append(self._rate(query_id))
        return made

    def _ask(self, query_id: str) -> Made:
        return events.ask(self._plan.source, query_id, _now(), self._dice)

    def _rate(self, query_id: str) -> Made:
        self._numbers[query_id] = number = self._numbers.get(query_id, 0) + 1
        return events.rate(self._plan.source, query_id, number, _now(), self._dice)

    async def _send(self, batch: Sequence[Made]) -> None:
        """See a request through: again with the same ids until all is confirmed, or give up by chance."""
        self._requests += 1
        request, settled = self._requests, set[int]()
        single = len(batch) == 1 and self._dice.random() < 0.8
        body = json.dumps(batch[0].body if single else [made.body for made in batch]).encode()
        kind = "application/cloudevents+json" if single else "application/cloudevents-batch+json"
        self._ledger.sent(request, [made.sent for made in batch])
        give_up_at: float | None = None
        while len(settled) < len(batch):
            pause_s = self._dice.uniform(0.1, 0.6)
            try:
                answer = await self._http.post("/v1/events", content=body, headers={"content-type": kind})
            except httpx.TransportError:
                answer = None
            if answer is not None:
                statuses = _statuses(answer)
                if statuses is None and answer.status_code not in (502, 503, 429):
                    text = f"HTTP {answer.status_code}: {answer.text[:300]}"
                    self._ledger.problem(request, text)
                    return
                news = {i: s for i, s in (statuses or {}).items() if s != "unconfirmed" and i not in settled}
                if news:
                    self._ledger.answered(request, news)
                    settled |= news.keys()
                pause_s += min(1.0, float(answer.headers.get("retry-after", "0")))
            if len(settled) == len(batch) or self._dice.random() < _GIVES_UP:
                return
            now = asyncio.get_running_loop().time()
            if self.stopping.is_set():
                give_up_at = give_up_at or now + _FINISH_S
                if now > give_up_at:
                    return
            await asyncio.sleep(pause_s)


def _statuses(answer: httpx.Response) -> dict[int, str] | None:
    """Index → status, as a receipt says; None if the answer is none."""
    try:
        found = answer.json()
        return {int(one["index"]): str(one["status"]) for one in found["results"]}
    except (ValueError, KeyError, TypeError):
        return None


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


async def run_client(plan: ClientPlan) -> None:
    """Until SIGTERM."""
    limits = httpx.Limits(max_keepalive_connections=plan.hands)
    headers = {"authorization": f"Bearer {plan.key}"}
    async with httpx.AsyncClient(base_url=plan.url, headers=headers, timeout=20.0, limits=limits) as http:
        client = Client(plan, http)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, client.stopping.set)
        await client.run()


if __name__ == "__main__":
    asyncio.run(run_client(msgspec.json.decode(sys.argv[1], type=ClientPlan)))
