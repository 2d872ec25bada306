"""The verbs on Redis; nothing outside this package knows a key or a connection."""
