"""Where versions, datasets and studies of a tenant lie: one directory that learner and search share."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class Artifacts(Struct, frozen=True):
    """Places under one root. What `version.proposed` names is complete before the event is written."""

    root: Path

    def version(self, tenant: str, version: str) -> Path:
        """The directory of a version."""
        return self.root / tenant / "versions" / version

    def versions(self, tenant: str) -> Path:
        """The directory that holds the tenant's versions."""
        return self.root / tenant / "versions"

    def dataset(self, tenant: str, dataset_id: str) -> Path:
        """The directory of a frozen dataset."""
        return self.root / tenant / "datasets" / dataset_id

    def study(self, tenant: str, training: str) -> Path:
        """The directory of a training's trials."""
        return self.root / tenant / "studies" / training

    def vectors(self, tenant: str) -> Path:
        """The cache of document vectors, one SQLite file."""
        return self.root / tenant / "vectors.sqlite"
