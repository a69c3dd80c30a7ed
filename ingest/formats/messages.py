"""The words in what models are given and give back, in the shapes that applications log them."""

from __future__ import annotations

from typing import Any, Final

#: Members that hold the text, in the order in which they are looked for.
_TEXTS: Final = ("query", "question", "input", "prompt", "text", "content", "output", "answer", "response")
#: Deeper than this nobody writes a text.
_DEEPEST: Final = 6


def spoken_text(value: Any, role: str, depth: int = 0) -> str | None:
    """The text in a logged input or output; None if there is none.

    A text itself; of chat messages the last one of `role`; of an object the first member that is named as a
    text is; of content parts their texts, joined.
    """
    if isinstance(value, str):
        return value if value.strip() else None
    if depth > _DEEPEST:
        return None
    if isinstance(value, list):
        return _of_list(value, role, depth)
    if isinstance(value, dict):
        for name in ("messages", *_TEXTS):
            found = spoken_text(value.get(name), role, depth + 1)
            if found is not None:
                return found
    return None


def _of_list(values: list[Any], role: str, depth: int) -> str | None:
    if any(isinstance(one, dict) and "role" in one for one in values):
        spoken = [one for one in values if isinstance(one, dict) and one.get("role") == role]
        return spoken_text(spoken[-1].get("content"), role, depth + 1) if spoken else None
    texts = (spoken_text(one, role, depth + 1) for one in values)
    return "\n".join(text for text in texts if text) or None
