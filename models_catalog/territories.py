"""Countries by their ISO 3166-1 alpha-2 codes. Pure."""

from __future__ import annotations

from functools import cache

from babel import Locale

# Two-letter codes of CLDR that are no country of ISO 3166-1: unions, reservations, placeholders.
_NO_COUNTRIES = frozenset({"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "XK", "ZZ"})
_CODE_LETTERS = 2


@cache
def names() -> dict[str, str]:
    """Returns the country's English name for each code."""
    listed = Locale("en").territories.items()
    codes = {code: name for code, name in listed if len(code) == _CODE_LETTERS and code.isalpha()}
    return {code: name for code, name in sorted(codes.items()) if code not in _NO_COUNTRIES}


def name(code: str) -> str:
    return names().get(code, code)
