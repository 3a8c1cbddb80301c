"""The loop of every driver in Python: one JSON object a line on standard input, one answer a line on standard output.

`{"do": VERB, ...}` is answered with the verb's own fields, with `{"unsupported": true}` where the client has no such thing, or with
`{"error": {"code": N or null, "text": TEXT}}`: Kafka's error code where the client tells it. The verbs stand in ../README.md.
"""

import json
import os
import sys

BOOTSTRAP = os.environ["BOOTSTRAP"]


class Unsupported(Exception):
    """The client cannot do that."""


class Refused(Exception):
    """Something that a client gave as an error, with Kafka's code if it is one of the broker's."""

    def __init__(self, code: int | None, text: str):
        super().__init__(text)
        self.code = code


def answer(call, code_of, asked: dict) -> dict:
    """What a driver says to one line."""
    verb = getattr(call, asked.pop("do"), None)
    if verb is None:
        return {"unsupported": True}
    try:
        return verb(**asked) or {}
    except Unsupported:
        return {"unsupported": True}
    except Refused as refused:
        return {"error": {"code": refused.code, "text": str(refused)}}
    except Exception as error:  # Whatever a client raises is its answer.
        return {"error": {"code": code_of(error), "text": f"{type(error).__name__}: {error}"[:500]}}


def serve(driver, code_of=lambda error: None):
    """Answers until standard input ends. `driver` has a method for each verb; `code_of` finds Kafka's code in an exception."""
    # What a library prints does not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(driver, code_of, json.loads(line))), file=answers, flush=True)
    answers.flush()
    os._exit(0)


def text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def data(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
