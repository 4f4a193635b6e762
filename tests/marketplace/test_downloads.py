from __future__ import annotations

import pytest

from marketplace.downloads import parse_range

LONG = "9" * 5000  # more digits than int() reads


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-", (0, 99)),
        ("bytes=00005-000000000000000000000000007", (5, 7)),
        (f"bytes=0-{LONG}", (0, 99)),
        (f"bytes=-{LONG}", (0, 99)),
        ("bytes=7-5", None),
        ("bytes=-", None),
        ("bytes=٣-", None),
    ],
)
def test_a_range_of_any_length_is_read(header: str, span: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", f"bytes={LONG}-", "bytes=-0"])
def test_a_range_outside_the_file_is_refused(header: str) -> None:
    with pytest.raises(ValueError):
        parse_range(header, 100)
