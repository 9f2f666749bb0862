"""Rewards by toehold's verifier: the wheel `toehold` where it is installed, else the reward server.

The server is `toehold verify --serve 127.0.0.1:8643`; TOEHOLD_VERIFIER names another one. A verdict that cannot
be had is an error, never a silent 0: a trainer that learns from missing rewards learns that everything is wrong.
"""

import json
import os
import time
import urllib.error
import urllib.request

try:
    import toehold
except ImportError:
    toehold = None

SERVER = os.environ.get("TOEHOLD_VERIFIER", "http://127.0.0.1:8643")
ATTEMPTS = 5


def known(verdict):
    """The reward of a verdict of the server."""
    if verdict["reward"] is None:
        raise RuntimeError(f"{SERVER} could not judge: {verdict['outcome']}; see its log")
    return float(verdict["reward"])


def rewards(rows):
    """1.0 or 0.0 for each row: `verifier` is the rule's name, `answer` the reference, `text` what is judged."""
    if toehold is not None:
        verdicts = toehold.verify_batch([(row["verifier"], row["answer"], row["text"]) for row in rows])
        return [verdict.reward for verdict in verdicts]
    body = json.dumps({"rows": rows}).encode()
    request = urllib.request.Request(SERVER + "/judge", body, {"content-type": "application/json"})
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return [known(verdict) for verdict in json.load(answer)["rows"]]
        except urllib.error.HTTPError as error:
            # The server has understood: asking again would give the same answer, but for a queue that is full.
            if error.code != 503 or attempt + 1 == ATTEMPTS:
                raise RuntimeError(f"{SERVER} refused: {error.read().decode(errors='replace')}") from error
        except OSError as error:
            if attempt + 1 == ATTEMPTS:
                raise RuntimeError(f"no reward server at {SERVER}: start `toehold verify --serve`") from error
        time.sleep(2**attempt)
