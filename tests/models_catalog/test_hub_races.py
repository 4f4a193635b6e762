"""Two pushes to one repository at once: both whole and in some order, or one is told to look again."""

from __future__ import annotations

import pytest
import scenarios
from test_hub_uploads import Pusher, file, pusher
from test_order_races import at_once

from models_catalog.models import Release

pytestmark = pytest.mark.django_db(transaction=True)


def pushes(vera: Pusher, *, parent: str) -> list[int]:
    def push(name: str) -> int:
        lines = [file(f"{name}{number}.txt", name) for number in range(4)]
        return int(vera.commit("vera/net", file("shared.txt", name), *lines, parent=parent).status_code)

    return at_once(lambda: push("one"), lambda: push("two"))


def test_of_two_commits_on_one_parent_one_is_told_to_look_again() -> None:
    vera = pusher("vera")
    published = scenarios.published_release(vera.user)

    assert sorted(pushes(vera, parent=published.sha)) == [200, 412]

    draft = Release.objects.get(version="1.1")
    names = {path[:3] for path in draft.artifacts.filter(path__regex="^(one|two)").values_list("path", flat=True)}
    assert (len(names), draft.artifacts.count()) == (1, 3 + 5)


def test_two_commits_without_a_parent_follow_each_other_in_one_draft() -> None:
    vera = pusher("vera")
    scenarios.published_release(vera.user)

    assert pushes(vera, parent="") == [200, 200]

    assert Release.objects.get(version="1.1").artifacts.count() == 3 + 9
