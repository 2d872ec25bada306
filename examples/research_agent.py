"""A research agent that goes on after its last paid step: python research_agent.py FOLDER "QUESTION" RUN_ID

It needs $OPENAI_API_KEY; any server that speaks OpenAI's wire format will do ($OPENAI_BASE_URL, $OPENAI_MODEL).
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from openai import OpenAI

import agentcheckpoint as ac

MODEL = os.environ.get("OPENAI_MODEL", "gpt-5-mini")


def tools_for(folder: Path) -> dict[str, Any]:
    """What the model may do with a folder of documents, each read once. What comes back is bounded, and from there."""

    @cache
    def texts() -> dict[str, list[str]]:
        paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".md", ".rst", ".txt")]
        inside = [path for path in paths if path.is_file() and path.resolve().is_relative_to(folder.resolve())]
        return {str(path.relative_to(folder)): path.read_text("utf-8", "replace").splitlines() for path in inside}

    @ac.tool
    def list_documents() -> str:
        """Names of the documents, with their first line that is not empty."""
        return "\n".join(f"{name}: {next(filter(None, lines), '')[:80]}" for name, lines in texts().items())[:9000]

    @ac.tool
    def search_documents(words: str) -> str:
        """Lines that hold these words, each as document:line: text."""
        lines = ((name, n, line) for name, text in texts().items() for n, line in enumerate(text, 1))
        found = [f"{name}:{n}: {line.strip()[:200]}" for name, n, line in lines if words.lower() in line.lower()]
        return "\n".join(found[:60])

    @ac.tool
    def read_document(name: str, line: int = 1) -> str:
        """Forty lines of a document, from this line on."""
        return "\n".join(texts().get(name, [f"there is no {name!r}"])[max(0, line - 1) :][:40])[:4000]

    return {tool.name: tool for tool in (list_documents, search_documents, read_document)}


def research(run: ac.Run, client: OpenAI, tools: dict[str, Any], question: str) -> str:
    """A plain loop: ask the model, do all that it asks for at once, ask again. The answer is streamed."""
    schemas = [tool.openai_schema for tool in tools.values()]
    messages: list[Any] = [{"role": "system", "content": "Look things up."}, {"role": "user", "content": question}]

    def use(call: Any) -> dict[str, str]:
        try:
            result = tools[call.function.name].call(call.function.arguments, id=call.id)
        except (KeyError, ValueError) as error:  # for the model to read: there is no such tool or argument
            result = repr(error)
        return {"role": "tool", "tool_call_id": call.id, "content": result}

    with ThreadPoolExecutor() as pool:
        for _ in range(20):
            reply = client.chat.completions.create(model=MODEL, messages=messages, tools=schemas).choices[0].message
            messages.append(reply.to_dict())
            if not reply.tool_calls:
                break
            messages += pool.map(run.bind(use), reply.tool_calls)
    messages.append({"role": "user", "content": "Answer in a few sentences, and name the documents that say so."})
    usage: Any = {"include_usage": True}
    answer = ""
    for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True, stream_options=usage):
        text = "".join(choice.delta.content or "" for choice in chunk.choices)
        print(text, end="", flush=True)
        answer += text
    return run.finish(answer)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit('usage: python research_agent.py FOLDER "QUESTION" RUN_ID')
    with ac.run(sys.argv[3]) as run:
        research(run, ac.wrap(OpenAI()), tools_for(Path(sys.argv[1])), sys.argv[2])
    print(f"\n{run.cost}")
