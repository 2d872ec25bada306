"""The SDK's own types of tools, for type checkers: imported while types are checked, and never when code runs."""

from openai.types.chat import ChatCompletionFunctionToolParam as ChatCompletionFunctionToolParam
from openai.types.responses import FunctionToolParam as FunctionToolParam
