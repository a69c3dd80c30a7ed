"""Room on the engine's disk: rows are only taken while there is plenty, and never lost when it runs out.

chDB (4.4) tells nobody of a write that fails in the middle of a file: the insert succeeds, the part is torn
(measured on a disk that was filled meanwhile; a ClickHouse server says so). So inserts are refused long
before that, and a process that finds the disk full after an insert does not answer for it: it ends. The next
one sets torn parts aside when it opens the directory, and whoever had no answer inserts again.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from .errors import NOT_ENOUGH_SPACE, EngineError

#: What an insert may take on disk for each byte of its body: the rows, their indices, a merge of them.
_SHARE: Final = 2
#: With less room than this a write may have failed.
FULL_BYTES: Final = 4 << 20
_EXIT_STATUS: Final = 74  # EX_IOERR


def require_room(directory: Path, body_bytes: int, min_free_bytes: int) -> None:
    """Raises EngineError (NOT_ENOUGH_SPACE): after this insert less than `min_free_bytes` would be free."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < min_free_bytes + _SHARE * body_bytes:
        raise EngineError(
            f"The disk of {directory} has {free_bytes >> 20} MiB free, and {min_free_bytes >> 20} MiB are "
            "kept free: nothing is inserted until there is room again. (NOT_ENOUGH_SPACE)",
            NOT_ENOUGH_SPACE,
        )


def end_if_full(directory: Path) -> None:
    """Ends the process if what was just written may be torn: its answer must not go out."""
    if shutil.disk_usage(directory).free < FULL_BYTES:
        sys.stderr.write(
            f"the disk of {directory} ran full during an insert, which is not answered for: this process "
            "ends, and the next one sets aside what is torn\n"
        )
        sys.stderr.flush()
        os._exit(_EXIT_STATUS)
