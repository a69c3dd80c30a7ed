"""`ratchet`: the command line. A file a command group: parse, call, print."""

from api.cli.main import main

__all__ = ["main"]
