"""Faults on purpose: dying workers, cut lines, dying servers, and what must be true after each."""
