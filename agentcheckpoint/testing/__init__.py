"""What tests of agents need: a provider on loopback that keeps its own journal, and crash points."""
