"""Retries in tenacity's language: what a policy says of a failure, what it may never retry, and conditions of ours."""
