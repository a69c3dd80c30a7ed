"""Rebuilding the tables from the log (L6): beside the living ones, while the worker goes on."""

from streams.rebuild.build import Progress
from streams.rebuild.run import Kept, RebuildReport, keep_as_of, rebuild
from streams.rebuild.state import BuildState, decode_any_state

__all__ = ["BuildState", "Kept", "Progress", "RebuildReport", "decode_any_state", "keep_as_of", "rebuild"]
