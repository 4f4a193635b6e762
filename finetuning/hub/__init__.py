"""Data sets as Hub clients see them (ADR 0044), on what `models_catalog.hub` says for every repository."""
