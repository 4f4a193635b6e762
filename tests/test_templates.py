"""Every template compiles, and names no other template that is missing: pages that no test opens included."""

from pathlib import Path

import pytest
from django.template import engines
from django.template.loader_tags import ExtendsNode, IncludeNode

ROOT = Path(__file__).parents[1] / "templates"


@pytest.mark.parametrize("name", sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.*")))
def test_a_template_compiles_and_what_it_names_exists(name: str) -> None:
    engine = engines["django"].engine
    template = engine.get_template(name)

    named = [node.template for node in template.nodelist.get_nodes_by_type(IncludeNode)]
    named += [node.parent_name for node in template.nodelist.get_nodes_by_type(ExtendsNode)]

    for expression in named:
        # A variable names it: only the page knows.
        if isinstance(expression.var, str):
            engine.get_template(expression.var)
