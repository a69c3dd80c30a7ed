"""Nouns that two rooms share: events, episodes, pairs, datasets, versions, ids, topics. No I/O."""
