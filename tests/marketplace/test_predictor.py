from __future__ import annotations

import textwrap
from pathlib import Path

from sites import Site, until

ASK = textwrap.dedent("""
    import sys, time
    from marketplace import predictor
    from marketplace.errors import Invalid, Unavailable
    for _ in range(600):
        try:
            predictor.predict("0" * 40, b"no picture")
        except Invalid as error:
            sys.exit(f"answered: {error.code}")
        except Unavailable:
            time.sleep(0.1)
""")


def test_the_predictor_is_reached_however_long_its_path_is_and_wherever_temporary_files_go(tmp_path: Path) -> None:
    """The kernel takes 107 bytes for a socket's path; the web server has a TMPDIR of its own."""
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    site = Site(deep)

    with site.running("predictor"):
        until(lambda: (deep / "predictor" / "predict.sock").exists() or None)
        asked = site.manage("shell", "-c", ASK, TMPDIR=str(tmp_path))

    assert "answered: " in asked.stderr, asked.stderr + site.log()
