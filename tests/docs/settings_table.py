"""`docs/settings.md`: every setting with default and meaning, from the settings structs.

python -P -m tests.docs.settings_table     writes it anew
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from api.settings import Settings, TenantSettings

PATH: Final = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
HEAD: Final = """# Settings

One file, `ratchet.toml`, in the project's directory; a variable `RATCHET_<SECTION>__<KEY>` overrides it, and
`RATCHET_<SECTION>__<KEY>_FILE` names a file that holds the value (for secrets). An unknown key is an error.
`ratchet config show` prints every setting with its value and where it comes from.

Made from the code by `python -P -m tests.docs.settings_table`.
"""


def render_page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        struct = hints[field.name]
        if get_origin(struct) is dict:
            struct, title, defaults = TenantSettings, "tenants.<name>", TenantSettings()
        else:
            title, defaults = field.name, getattr(Settings(), field.name)
        yield f"## `[{title}]`\n\n{inspect.getdoc(struct)}\n"
        yield "| key | default | meaning |\n|---|---|---|"
        yield from _rows(struct, defaults)
        yield ""


def _rows(struct: type[Struct], defaults: Struct) -> Iterator[str]:
    hints = get_type_hints(struct, include_extras=True)
    comments = _comments(struct)
    for field in msgspec.structs.fields(struct):
        meaning = _description(hints[field.name]) or comments.get(field.name, "")
        shown = msgspec.json.encode(getattr(defaults, field.name)).decode()
        yield f"| `{field.name}` | `{shown}` | {meaning.replace('|', chr(92) + '|')} |"


def _description(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, Meta) and extra.description:
                return str(extra.description)
    return ""


def _comments(struct: type[Struct]) -> dict[str, str]:
    """Field → the `#:` comment above it."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    for line in inspect.getsource(struct).splitlines():
        text = line.strip()
        if text.startswith("#:"):
            waiting.append(text.removeprefix("#:").strip())
        elif (name := re.match(r"(\w+):", text)) and waiting:
            found[name[1]] = " ".join(waiting)
            waiting = []
        elif text:
            waiting = []
    return found


if __name__ == "__main__":
    PATH.write_text(render_page(), encoding="utf-8")
