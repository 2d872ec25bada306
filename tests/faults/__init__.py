"""Faults on purpose: dying workers, cut wires, dying servers, and what must be true after each. ``python -m tests.faults``."""
