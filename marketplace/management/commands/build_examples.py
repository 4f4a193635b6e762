"""Builds the example data sets that the upload page offers; what needs the package index is fetched from it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from finetuning.services import examples
from marketplace import demo
from marketplace.errors import DomainError


class Command(BaseCommand):
    help = __doc__

    def handle(self, **_options: Any) -> None:
        try:
            demo.build_examples(report=self.stdout.write)
        except DomainError as error:
            raise CommandError(error.message) from error
        for example in examples.available():
            self.stdout.write(f"{example.file}: {example.items:,} {example.unit}, {example.classes} classes")
