"""Straight-through rules are no derivatives: test_quantize.py checks their formula instead."""

from tests.backward.harness import Case

CASES: list[Case] = []
