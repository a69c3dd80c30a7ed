"""The tables as an analyst sees them, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx

from infra.chaos.scene import ChaosError, Scene

#: View → columns that say where a record stood, not what it is.
_POSITIONS: Final[Mapping[str, str]] = {
    "events": "topic, partition, offset",
    "documents": "",
    "episodes": "",
    "pairs": "",
    "contributions": "",
    "rejected": "",
    "lifecycle": "partition, offset",
}
_TIMEOUT_S: Final = 300.0


class Store:
    """Statements under the analysts' account of the scratch stack."""

    def __init__(self, scene: Scene, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._scene = scene
        self._timeout_s = timeout_s

    def rows(self, statement: str) -> Iterator[list[Any]]:
        """The rows of a SELECT. Raises ChaosError with the store's reason."""
        scene = self._scene
        try:
            answer = httpx.post(
                scene.store_url,
                params={
                    "database": "ratchet",
                    "default_format": "JSONCompactEachRow",
                    "output_format_json_quote_64bit_integers": "0",
                    "wait_end_of_query": "1",
                },
                headers={"X-ClickHouse-User": scene.analyst_user, "X-ClickHouse-Key": scene.analyst_password},
                content=statement.encode(),
                timeout=self._timeout_s,
            )
        except httpx.TransportError as error:
            raise ChaosError(f"the scratch stack's ClickHouse does not answer: {error}") from error
        if answer.status_code != 200:
            raise ChaosError(f"ClickHouse refused a statement: {answer.text.strip()[:300]}")
        return map(json.loads, answer.content.splitlines())

    def digests(self) -> dict[str, tuple[int, int]]:
        """View → rows, and the wrapping sum of the hashes of their contents: without positions."""
        found = {}
        for view, positions in _POSITIONS.items():
            columns = f"* EXCEPT ({positions})" if positions else "*"
            # as text: the hash of a row with a NULL is NULL, and a sum leaves it out
            row_hash = f"cityHash64(toString(tuple({columns})))"
            ((rows, total),) = self.rows(f"SELECT count(), sum({row_hash}) FROM {view}")
            found[view] = (int(rows), int(total or 0))
        return found
