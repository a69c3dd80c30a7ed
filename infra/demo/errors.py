"""What ends the demo early, as one sentence for the person who started it."""


class DemoError(Exception):
    """The demo cannot go on; the text says why and what to do."""
