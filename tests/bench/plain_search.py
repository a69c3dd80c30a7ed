"""The sketch beside search: encode a question, one matrix product, sort; in one loop of one process.

python -P -m tests.bench.plain_search --searches 500
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import cycle, islice

import msgspec
import numpy as np
from msgspec import Struct

from tests.bench.load import Latency, order_statistics
from tests.bench.traffic import documents, questions


class Searched(Struct, frozen=True):
    """How long a search took."""

    searches: int
    latency: Latency


def search(searches: int) -> Searched:
    """Load the model, encode the documents, search."""
    import torch  # heavy: only when it runs

    from learners.pipeline.embedder import DEFAULT_MODEL, load_base_model

    torch.set_num_threads(1)
    model = load_base_model(DEFAULT_MODEL)
    matrix = np.asarray(model.encode(documents(), normalize_embeddings=True))
    latencies = []
    for text in islice(cycle(questions()), searches):
        started = time.perf_counter()
        scores = matrix @ np.asarray(model.encode(text, normalize_embeddings=True))
        np.argsort(-scores)[:10]
        latencies.append(time.perf_counter() - started)
    return Searched(searches, order_statistics(latencies))


def main() -> None:
    """Parse, search, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=500)
    sys.stdout.buffer.write(msgspec.json.encode(search(parser.parse_args().searches)) + b"\n")


if __name__ == "__main__":
    main()
