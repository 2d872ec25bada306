"""How fast agentcheckpoint is, as ratios to something bare that is measured in the same minute on the same server."""
