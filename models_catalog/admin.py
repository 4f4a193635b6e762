"""The catalog in Django's admin, to look things up."""

from marketplace import administration

administration.register("models_catalog")
