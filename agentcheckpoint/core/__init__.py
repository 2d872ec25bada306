"""Pure rules: no Redis, no OpenAI, no clock, no randomness."""
