"""Formats: bytes as others write them → CloudEvents, which then go through the one admission.

A format is pure: no I/O, no clock, no minting of ids. What has no id of its own gets one derived from its
content (never from the time at which it came), so that the same bytes are the same events.
"""
