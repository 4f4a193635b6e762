from __future__ import annotations

import json

import pytest
from sites import Site

from marketplace.queue_settings import CHECK_DEADLINE_SECONDS, FAST, TRAIN

PRINT = "import json; from django.conf import settings; print(json.dumps(settings.Q_CLUSTER))"


@pytest.mark.parametrize("deadline", [600, 7 * 86_400])
def test_the_queue_never_ends_a_run_before_its_own_deadline(site: Site, deadline: int) -> None:
    answer = site.manage("shell", "-c", PRINT, RUN_DEADLINE_SECONDS=str(deadline), Q_CLUSTER_NAME=TRAIN)

    cluster = json.loads(answer.stdout.splitlines()[-1])
    train, fast = (cluster["ALT_CLUSTERS"][name] for name in (TRAIN, FAST))
    assert train["timeout"] > 4 * deadline  # search, train, evaluate, export
    assert fast["timeout"] > CHECK_DEADLINE_SECONDS
    assert all(slot["retry"] > slot["timeout"] for slot in (train, fast, cluster))
    assert cluster["timeout"] == train["timeout"]
