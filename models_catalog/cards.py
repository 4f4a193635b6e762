"""Model cards: YAML front matter and Markdown, rendered without anything that could run."""

from __future__ import annotations

import re
from typing import Any

import nh3
import yaml
from markdown_it import MarkdownIt
from mdit_py_plugins.tasklists import tasklists_plugin

_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n?", re.DOTALL)
# Hostile Markdown costs up to a second of CPU for 64 KiB (markdown-it-py 4, 2.6 GHz Zen 4), growing with the square.
MAX_CARD_BYTES = 64 * 1024
RENDERING = 1  # part of the key under which rendered cards are kept: count up where `render` changes
# Deeper nesting is no front matter, and the C loader overruns its stack on a few thousand levels.
_MAX_DEPTH = 16
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = nh3.ALLOWED_TAGS - {"img", "svg", "math", "map", "area"}
_renderer = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).use(tasklists_plugin)


def front_matter(text: str) -> dict[str, Any]:
    """Returns the card's metadata. What is no YAML mapping, nests deeply or repeats itself by aliases counts as
    absent."""
    match = _FRONT_MATTER.match(text)
    try:
        if match is None or not _is_plain(match.group(1)):
            return {}
        document = yaml.load(match.group(1), Loader=_Loader)  # noqa: S506 - a safe loader, the C one where built
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError):
        # Not YAML errors: a date such as 2026-99-99, and values that are not what their tag says (`!!bool maybe`).
        return {}
    return document if isinstance(document, dict) else {}


def _is_plain(text: str) -> bool:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            return False
    return True


def body(text: str) -> str:
    """Returns the card without its front matter, which is not parsed for that."""
    return _FRONT_MATTER.sub("", text, count=1)


def render(text: str) -> str:
    """Returns the card's body as safe HTML: no scripts, no handlers, no images from other hosts; headings
    go one level down, because the page has its own h1."""
    html = _renderer.render(body(text))
    html = re.sub(r"<(/?)h([1-5])>", lambda found: f"<{found[1]}h{int(found[2]) + 1}>", html)
    return nh3.clean(html, tags=_TAGS, link_rel="nofollow noopener noreferrer", url_schemes={"https", "http", "mailto"})


def write(metadata: dict[str, Any], text: str) -> str:
    """Returns the text of a README.md."""
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{head}---\n\n{text.strip()}\n"
