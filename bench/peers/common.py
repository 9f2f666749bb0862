"""What every peer shares: the protocol with compare.py, the tokens, and memory.

A peer prints one line of JSON when it is warm, then runs one round for every line it reads and prints one
line of JSON for it. Everything that the libraries print goes to standard error.
"""

import json
import os
import resource
import sys
import time

THREADS = int(os.environ.get("PEER_THREADS", "2"))


def protocol():
    """The stream for the protocol. File descriptor 1 itself is turned to standard error, because
    libraries (and their C++) print where they like."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return stream


def say(stream, **event):
    print(json.dumps(event), file=stream, flush=True)


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(stream, run, mode, warm=2):
    """`run(number)` does one round and gives how many tokens it made or learnt."""
    for number in range(warm):
        run(number)
    say(stream, event="ready", mode=mode)
    for number, _ in enumerate(sys.stdin, start=warm):
        begin = time.perf_counter()
        tokens = run(number)
        seconds = time.perf_counter() - begin
        say(stream, event="round", seconds=seconds, tokens=tokens, peak_bytes=peak_bytes())


def starts(path):
    """One `{"prompt", "prefix", "completions"}` a line, as `toehold bench --tokens` reads it."""
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.strip()]


def given(start, number, vocabulary):
    """Prompt and prefix of round `number`. Tokens move on by one every round, as in `toehold bench`, so
    that no round finds the last one's keys and values in a cache."""
    tokens = start["prompt"] + start.get("prefix", [])
    return [1 + (token - 1 + number) % (vocabulary - 1) if token else 0 for token in tokens]


def torch_with_threads():
    import torch

    torch.set_num_threads(THREADS)
    return torch
