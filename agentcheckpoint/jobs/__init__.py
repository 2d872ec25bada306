"""Runs as jobs: found when they are due, worked on, cancelled and retried from outside."""
