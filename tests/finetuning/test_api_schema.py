"""The whole schema, tried by schemathesis: no answer is a fault of the server, none is outside of the schema."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import scenarios
import schemathesis
from django.core import signals
from django.db import close_old_connections
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from worlds import dataset_of

from marketplace.accounts.models import Scope
from marketplace.accounts.services import people, tokens
from marketplace.wsgi import application

EXAMPLES = 4
KNOWN_SHARE = 0.7  # of the parts of an address that name something that is there
HELD = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    ignored_auth,
    unsupported_method,
]

# The recorded examples are drawn among the random bodies; each once more by itself would only take longer.
CONFIG = SchemathesisConfig.from_dict({"phases": {"examples": {"enabled": False}}})
api = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True), config=CONFIG)
api = api.exclude(path_regex="/predict/")  # answers 503 where no predictor runs
api.app = application


@schemathesis.serializer("application/offset+octet-stream")
def _as_it_is(_context: Any, value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes) else str(value).encode()


@pytest.fixture
def _connection_that_stays() -> Iterator[None]:
    """A request that ends closes the database, and with it the test's transaction; Django's own client does this too."""
    signals.request_started.disconnect(close_old_connections)
    signals.request_finished.disconnect(close_old_connections)
    yield
    signals.request_started.connect(close_old_connections)
    signals.request_finished.connect(close_old_connections)


@pytest.fixture
def known(db: None, _connection_that_stays: None) -> dict[str, str]:  # noqa: ARG001 - opens the database
    """Parts of addresses that name what is there, and the headers of somebody whose it is."""
    vendor = scenarios.person("vera")
    release = scenarios.published_release(vendor)
    dataset = dataset_of(people.namespace_of(vendor))
    _, token = tokens.issue(user=vendor, name="schema", scopes=Scope.values)
    return {
        "namespace": "vera",
        "name": release.listing.name,
        "version": release.version,
        "uid": str(dataset.uid),
        "path": "config.json",
        "Authorization": f"Bearer {token}",
    }


@api.parametrize()
@hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_every_answer_is_in_the_schema(case: Any, known: dict[str, str]) -> None:
    draw = random.Random(repr(case.path_parameters))
    for name in case.path_parameters or {}:
        if name in known and draw.random() < KNOWN_SHARE:
            case.path_parameters[name] = known[name]
    case.call_and_validate(headers={"Authorization": known["Authorization"]}, checks=HELD)
