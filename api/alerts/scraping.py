"""The metrics of a process, over HTTP."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import httpx
from prometheus_client.parser import text_string_to_metric_families

from api.alerts.series import Scraped
from schemas.errors import Retryable


async def scrape(client: httpx.AsyncClient, url: str, names: Collection[str]) -> Sequence[Scraped]:
    """The series of these names at `url`/metrics. Raises Retryable: no answer, or none that can be read."""
    try:
        answer = await client.get(f"{url}/metrics")
        answer.raise_for_status()
        # most lines are of no interest, and reading one takes longer than looking how it begins
        wanted = "\n".join(line for line in answer.text.splitlines() if line.startswith(tuple(names)))
        return [
            Scraped(sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(wanted + "\n")
            for sample in family.samples
            if sample.name in names
        ]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Retryable(f"no metrics from {url}: {error!r}") from error
