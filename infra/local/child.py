"""Become another program that cannot outlive its parent: ``python -P -m infra.local.child PARENT_PID --
PROGRAM …``.

The kernel kills the program (SIGKILL) when the parent dies, even by kill -9. The pid stays the same. Linux
only. The program's own children are not covered, as the kernel does not pass this on: see ``leftovers``.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies; exits at once if that has already happened.

    Raises OSError if the kernel refuses. The parent is the *thread* that started this process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent_pid:
        os._exit(1)  # the parent died between the fork and the call above


def main(arguments: list[str]) -> int:
    """Run the command line of this module; returns only if it failed, with a shell's 126 or 127."""
    parent, separator, *program = arguments
    if separator != "--" or not program:
        sys.stderr.write("child: expected PARENT_PID -- PROGRAM [ARGUMENT …]\n")
        return 2
    die_with_parent(int(parent))
    try:
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"cannot run {program[0]}: {error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
