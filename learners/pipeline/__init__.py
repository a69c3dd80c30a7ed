"""What is versioned and what searches: a whole retrieval pipeline, as a directory and at work.

Nothing here imports torch or sentence-transformers before an embedder is opened.
"""
