"""How the log is written. settings.py imports this before Django is ready."""

from __future__ import annotations

import sys
from typing import Any

import structlog


def logging_config(*, style: str, level: str) -> dict[str, Any]:
    """Returns Django's LOGGING: one line of words, or one JSON object with the request's or the run's number."""
    processors = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    json = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": processors,
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    }
    plain = {"format": "{asctime} {levelname} {name} {message}", "style": "{"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": plain, "json": json},
        "handlers": {"console": {"class": "logging.StreamHandler", "stream": sys.stderr, "formatter": style}},
        "root": {"handlers": ["console"], "level": level},
    }
