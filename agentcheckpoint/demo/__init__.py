"""The demo: a real agent on real documents, killed while it works."""

LATENCY = 0.15
"""Seconds that the demo's model takes to answer, if nothing else is asked for."""


class DemoFailed(RuntimeError):
    """A process of the demo ended otherwise than by finishing or by being killed."""
