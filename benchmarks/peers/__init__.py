"""agentcheckpoint beside what a user would pick instead: the same work on one machine, by turns, synced alike."""
