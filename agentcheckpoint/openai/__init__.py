"""Model calls through the OpenAI SDK, made steps. Nothing outside this package imports ``openai``."""
