"""The vector store without a model: keys, processes, kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from learners.pipeline.vectors import DocumentVectors, text_key

ENCODING, OTHER = "ab" * 32, "cd" * 32


def _vector(number: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.full(384, number, np.float32)


def test_what_is_stored_comes_back_and_only_that(tmp_path: Path) -> None:
    store = DocumentVectors(tmp_path / "new" / "vectors.sqlite")
    keys = [text_key(f"text {n}") for n in range(1200)]
    store.store(ENCODING, {key: _vector(n) for n, key in enumerate(keys[:1100])})
    found = DocumentVectors(tmp_path / "new" / "vectors.sqlite").load(ENCODING, keys, 384)
    assert found.keys() == set(keys[:1100])
    assert all((found[key] == n).all() for n, key in enumerate(keys[:1100]))
    assert store.load(OTHER, keys, 384) == {}
    assert store.load(ENCODING, keys, 383) == {}


def test_the_first_value_of_a_key_stays(tmp_path: Path) -> None:
    store, key = DocumentVectors(tmp_path / "vectors.sqlite"), text_key("text")
    store.store(ENCODING, {key: _vector(1)})
    store.store(ENCODING, {key: _vector(2)})
    assert store.load(ENCODING, [key], 384)[key][0] == 1


def test_encodings_that_nobody_serves_are_forgotten(tmp_path: Path) -> None:
    store, key = DocumentVectors(tmp_path / "vectors.sqlite"), text_key("text")
    store.store(ENCODING, {key: _vector(1)})
    store.store(OTHER, {key: _vector(2)})
    assert store.keep_only([OTHER]) == 1
    assert store.load(ENCODING, [key], 384) == {}
    assert store.load(OTHER, [key], 384)[key][0] == 2


_WRITER = """
import sys
import numpy as np
from pathlib import Path
from learners.pipeline.vectors import DocumentVectors, text_key
store = DocumentVectors(Path(sys.argv[1]))
for batch in range(100_000):
    rows = range(batch * 64, batch * 64 + 64)
    store.store("ab" * 32, {text_key(str(n)): np.full(384, n, np.float32) for n in rows})
    print(batch, flush=True)
"""


@pytest.mark.service
def test_kill_9_loses_no_finished_batch_and_leaves_no_half(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    finished = 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
        finished = max(finished, len(lines) + rest.count(b"\n"))
        keys = [text_key(str(n)) for n in range(64 * (finished + 2))]
        found = DocumentVectors(path).load(ENCODING, keys, 384)
        assert len(found) % 64 == 0
        assert len(found) >= 64 * finished
        assert all((found[key] == n).all() for n, key in enumerate(keys) if key in found)
