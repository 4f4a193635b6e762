"""What a browser sends of a page's form."""

from __future__ import annotations

import re


def values_of(page: str) -> dict[str, str]:
    """What a browser without scripts would send of the page's form."""
    values = {}
    for tag in re.findall(r"<input[^>]*>", page):
        field = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        is_box = field.get("type") in {"radio", "checkbox"}
        if is_box and "checked" not in tag:
            continue
        if "name" in field:
            values[field["name"]] = field.get("value", "on" if is_box else "")
    for name, options in re.findall(r'<select name="(\w+)".*?>(.*?)</select>', page, re.DOTALL):
        chosen = re.findall(r'<option value="([^"]*)"( selected)?', options)
        values[name] = next((value for value, selected in chosen if selected), chosen[0][0])
    return values
