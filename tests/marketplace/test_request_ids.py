from __future__ import annotations

import json
import logging

from django.test import Client
from structlog.contextvars import bound_contextvars

from marketplace.log_settings import logging_config


def test_an_answer_carries_the_number_that_was_sent_or_one_of_its_own(client: Client) -> None:
    given = client.get("/favicon.ico", headers={"X-Request-ID": "proxy-12345678"})
    broken = client.get("/favicon.ico", headers={"X-Request-ID": "two\twords {}"})
    none = client.get("/favicon.ico")

    assert given["X-Request-ID"] == "proxy-12345678"
    assert len(broken["X-Request-ID"]) == len(none["X-Request-ID"]) == 32
    assert broken["X-Request-ID"] != none["X-Request-ID"]


def formatted(*, error: Exception | None = None) -> dict[str, str]:
    config = logging_config(style="json", level="INFO")["formatters"]["json"]
    maker = config.pop("()")
    record = logging.LogRecord("marketplace.test", logging.WARNING, __file__, 1, "%s is full", ("a disk",), None)
    record.exc_info = (type(error), error, None) if error else None
    line: str = maker(**config).format(record)
    assert "\n" not in line
    answer: dict[str, str] = json.loads(line)
    return answer


def test_a_line_of_the_log_says_which_request_or_run_it_is_about() -> None:
    with bound_contextvars(request_id="abc", run_id="7"):
        line = formatted()

    assert (line["event"], line["level"], line["logger"]) == ("a disk is full", "warning", "marketplace.test")
    assert (line["request_id"], line["run_id"]) == ("abc", "7")
    assert "request_id" not in formatted()


def test_a_traceback_stays_on_its_line() -> None:
    assert "OSError: gone" in formatted(error=OSError("gone"))["exception"]
