"""Reads of the pages where people work: the vendor's desk, the buyer's, reviews, questions, moderation. They show
what `selectors` finds, each page in constant queries."""
