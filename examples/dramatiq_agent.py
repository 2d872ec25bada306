"""An agent on Dramatiq, whose runs survive their workers. docs/engines.md tells what happens when one is killed.

dramatiq dramatiq_agent:broker                               # as many as you like, on as many machines
python dramatiq_agent.py essay-1 "Why does a bee dance?"     # starts a run; done twice, it is there once

It needs $OPENAI_API_KEY; any server that speaks OpenAI's wire format will do ($OPENAI_BASE_URL, $OPENAI_MODEL).
"""

import os
import sys
from functools import cache

from dramatiq.brokers.redis import RedisBroker
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.jobs.dramatiq import AgentTasks

MODEL = os.environ.get("OPENAI_MODEL", "gpt-5-mini")
BROKER = os.environ.get("BROKER_URL", "redis://localhost:6379/0")

broker = RedisBroker(url=BROKER)


@cache
def client() -> OpenAI:
    return ac.wrap(OpenAI())


def ask(text: str) -> str:
    """One paid call: a step of the run."""
    return client().responses.create(model=MODEL, input=text).output_text


@ac.agent
def write(question: str) -> str:
    """Three paid calls. A worker that takes over goes on after the last of them that is stored."""
    outline = ask(f"Outline an answer to this question: {question}")
    draft = ask(f"Write it out: {outline}")
    return ask(f"Make it shorter: {draft}")


tasks = AgentTasks(broker, [write])

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit('usage: python dramatiq_agent.py RUN_ID "QUESTION"')
    print("started" if tasks.start(write, *sys.argv[1:]) else "is there already")
