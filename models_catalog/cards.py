"""Model cards: YAML front matter and Markdown, rendered without anything that could run."""

from __future__ import annotations

import re
from typing import Any

import nh3
import yaml
from markdown_it import MarkdownIt
from mdit_py_plugins.tasklists import tasklists_plugin

_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n?", re.DOTALL)
MAX_CARD_BYTES = 256 * 1024
_TAGS = nh3.ALLOWED_TAGS - {"img", "svg", "math", "map", "area"}
_renderer = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).use(tasklists_plugin)


def split(text: str) -> tuple[dict[str, Any], str]:
    """Returns (front matter, Markdown). Front matter that is no YAML mapping counts as absent."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        document = yaml.safe_load(match.group(1))
    except yaml.YAMLError:
        document = None
    return (document if isinstance(document, dict) else {}), text[match.end() :]


def render(text: str) -> str:
    """Returns the card's body as safe HTML: no scripts, no handlers, no images from other hosts; headings
    go one level down, because the page has its own h1."""
    _, body = split(text)
    html = _renderer.render(body)
    html = re.sub(r"<(/?)h([1-5])>", lambda found: f"<{found[1]}h{int(found[2]) + 1}>", html)
    return nh3.clean(html, tags=_TAGS, link_rel="nofollow noopener noreferrer", url_schemes={"https", "http", "mailto"})


def write(front_matter: dict[str, Any], body: str) -> str:
    """Returns the text of a README.md."""
    head = yaml.safe_dump(front_matter, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{head}---\n\n{body.strip()}\n"
