"""Model calls through the OpenAI SDK, made steps. Nothing outside this package imports ``openai``."""

from agentcheckpoint.openai.calls import name as name
from agentcheckpoint.openai.calls import reject as reject
from agentcheckpoint.openai.client import wrap as wrap
