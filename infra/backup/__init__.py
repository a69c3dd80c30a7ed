"""A backup: the log up to stated offsets, and files beside it, in one directory.

    manifest.json                   offsets, counts, SHA-256 of each file, versions; written last
    log/<topic>-<partition>.zst     the records of a partition (`records.py` says how)
    files/…                         artifacts, and the configuration unless it was left out

Everything is readable by its owner only: configuration holds keys, and records hold what people wrote.
"""
