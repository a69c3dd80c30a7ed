"""Serving: the versions that the lifecycle wants, over the tenant's documents, reported as events."""
