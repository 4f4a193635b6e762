"""What was done to a parent decides which of its rights it takes; and a relation that is not true is not believed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import scenarios
from django.utils import timezone

from marketplace.accounts.models import AuditEvent, User
from marketplace.errors import Denied, Invalid
from models_catalog import policies
from models_catalog.models import LineageEdge, Release
from models_catalog.models.lineage import Relation
from models_catalog.presets import PRESETS
from models_catalog.services import lineage, publishing
from models_catalog.terms import Answer, Right, Terms
from models_catalog.verdict import ADAPTER, COPY, DISTILLED, Edge, Lineage, Node, Outcome, effective, judge_offer

MIT = PRESETS["mit"]


def without(*rights: Right) -> Terms:
    """A permissive license that denies these."""
    answers = {**MIT.rights, **dict.fromkeys(rights, Answer.DENY)}
    return dataclasses.replace(MIT, license_id="other", spdx_id="", name="Nearly MIT", rights=answers)


def bound_by(terms: Terms, *relations: str) -> Any:
    """What a child carries of a root that it comes from by these steps, its own first; what is between is free."""
    nodes = {str(step): Node(str(step), f"mid/{step}", MIT) for step in range(1, len(relations))}
    nodes["root"] = Node("root", "rita/root", terms)
    names = ["child", *(str(step) for step in range(1, len(relations))), "root"]
    edges = {child: [Edge(parent, kind)] for child, parent, kind in zip(names, names[1:], relations, strict=False)}
    return effective(Lineage(nodes, edges), "child")


@pytest.mark.parametrize(
    "relations", [(DISTILLED,), ("finetune", DISTILLED), (DISTILLED, "finetune"), (DISTILLED, COPY)]
)
def test_what_learned_from_outputs_needs_the_right_to_that_however_far_up(relations: tuple[str, ...]) -> None:
    verdict = judge_offer(bound_by(without(Right.TRAIN_OTHER_MODELS), *relations), MIT)

    assert verdict.outcome is Outcome.REFUSED
    assert (verdict.reasons[0].parent, verdict.reasons[0].right) == ("rita/root", "train_other_models_on_outputs")


@pytest.mark.parametrize("relation", ["finetune", "quantized", "merge", ADAPTER])
def test_a_fine_tune_learned_from_no_outputs(relation: str) -> None:
    found = bound_by(without(Right.TRAIN_OTHER_MODELS), relation)

    assert found.barrier is None


def test_a_distilled_model_is_a_derivative_too() -> None:
    verdict = judge_offer(bound_by(without(Right.SHARE_DERIVATIVES), DISTILLED), MIT)

    assert verdict.outcome is Outcome.REFUSED
    assert DISTILLED in Relation.values


def declare(maker: User, draft: Release, parent: Release, relation: str) -> LineageEdge:
    given = {"user": maker, "release": draft, "parent": parent, "relation": relation}
    return lineage.declare(**given, now=timezone.now())  # type: ignore[arg-type]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("relation", "denied", "code"),
    [
        ("distilled", Right.TRAIN_OTHER_MODELS, "use_not_granted"),
        ("distilled", Right.SHARE_DERIVATIVES, "use_not_granted"),
        ("distilled", Right.FINE_TUNE, ""),
        ("finetune", Right.FINE_TUNE, "use_not_granted"),
        ("adapter", Right.FINE_TUNE, "use_not_granted"),
        ("merge", Right.FINE_TUNE, "use_not_granted"),
        ("merge", Right.SHARE_DERIVATIVES, "use_not_granted"),
        ("quantized", Right.FINE_TUNE, ""),
        ("quantized", Right.SHARE_DERIVATIVES, "use_not_granted"),
        ("finetune", Right.TRAIN_OTHER_MODELS, ""),
    ],
)
def test_a_declared_relation_needs_its_rights(relation: str, denied: Right, code: str) -> None:
    parent = scenarios.published_release(scenarios.person("vera"), terms=without(denied))
    maker = scenarios.person("mo")
    scenarios.licensed(maker, parent)
    holder = maker.namespace

    decision = policies.may_declare_parent(maker, parent, relation=relation, now=timezone.now(), holder=holder)

    assert decision.code == code or (not code and decision.allowed)


@pytest.mark.django_db
def test_outputs_of_one_s_own_derivative_are_outputs_of_what_it_comes_from() -> None:
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=without(Right.TRAIN_OTHER_MODELS))
    mia = scenarios.person("mia")
    scenarios.licensed(mia, root)
    tuned = scenarios.draft_release(mia, name="tuned", terms=without(Right.TRAIN_OTHER_MODELS))
    declare(mia, tuned, root, "finetune")
    tuned.refresh_from_db()
    tuned = publishing.publish(user=mia, release=scenarios.verify(mia, tuned), now=timezone.now())
    student = scenarios.draft_release(mia, name="student", terms=without(Right.TRAIN_OTHER_MODELS))

    with pytest.raises(Denied) as caught:
        declare(mia, student, tuned, "distilled")

    assert caught.value.extra["reasons"][0]["parent"] == str(root)


@pytest.mark.django_db
def test_other_weights_are_no_copy() -> None:
    """Else who may pass on the original, and nothing made of it, would publish a fine-tune under that name."""
    parent = scenarios.published_release(scenarios.person("vera"), terms=PRESETS["cc-by-nd-4.0"])
    maker = scenarios.person("mo")
    scenarios.licensed(maker, parent)
    draft = scenarios.draft_release(maker, terms=PRESETS["cc-by-nd-4.0"], weights="tuned")

    with pytest.raises(Invalid) as caught:
        declare(maker, draft, parent, "copy")

    assert caught.value.code == "not_a_copy"


@pytest.mark.django_db
def test_weights_that_changed_after_the_declaration_make_a_copy_a_derivative() -> None:
    parent = scenarios.published_release(scenarios.person("vera"), terms=PRESETS["cc-by-nd-4.0"], weights="the same")
    maker = scenarios.person("mo")
    scenarios.licensed(maker, parent)
    draft = scenarios.draft_release(maker, terms=PRESETS["cc-by-nd-4.0"], weights="the same")
    declare(maker, draft, parent, "copy")

    publishing.attach_texts(user=maker, release=draft, texts=[("model.safetensors", "tuned")])
    ready = scenarios.verify(maker, draft)

    assert ready.parent_edges.get().relation == "finetune"
    assert AuditEvent.objects.filter(action="lineage.correct").exists()
    with pytest.raises(Denied) as caught:
        publishing.publish(user=maker, release=ready, now=timezone.now())
    assert caught.value.code == "use_not_granted"


@pytest.mark.django_db
def test_a_mirror_follows_its_origin_to_the_next_version() -> None:
    vendor, maker = scenarios.person("vera"), scenarios.person("mo")
    terms = PRESETS["cc-by-nd-4.0"]
    for version in ("1.0", "2.0"):
        parent = scenarios.published_release(vendor, terms=terms, version=version, weights=f"weights {version}")
        scenarios.licensed(maker, parent)
        draft = scenarios.draft_release(
            maker, name="mirror", terms=terms, version=version, weights=f"weights {version}"
        )
        declare(maker, draft, parent, "copy")
        publishing.publish(user=maker, release=scenarios.verify(maker, draft), now=timezone.now())

    newest = Release.objects.get(listing__name="mirror", version="2.0")
    assert list(newest.parent_edges.values_list("relation", "parent__version")) == [("copy", "2.0")]
