"""Webhooks in the form of Standard Webhooks: what happens here is told to programs of those whom it concerns."""
