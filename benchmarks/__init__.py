"""Measures the product against plain alternatives, both in one run: `python -m benchmarks NAME`.

Every benchmark prints a table for people and, as its last line, one JSON object with the same figures.
"""
