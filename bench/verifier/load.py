#!/usr/bin/env python3
"""Load on `toehold verify --serve`: load.py HOST:PORT SECONDS

64 clients ask as fast as they can; one request in ten is slow, broken or huge. Every honest answer is
checked against what was asked, so an answer that is lost, wrong or another client's is counted. Needs
nothing but Python.
"""

import json
import random
import socket
import sys
import threading
import time
import urllib.request

CLIENTS = 64
ROWS = 8


def honest(address, rng, number):
    """Asks for eight verdicts; whether all came back, in their order and right."""
    gold, right = str(rng.randrange(1000)), rng.random() < 0.5
    text = "so \\boxed{%s}" % (gold if right else gold + "1")
    row = {"gold": gold, "prediction": text, "prediction_form": "text", "number": number}
    body = json.dumps({"rows": [row] * ROWS}).encode()
    answer = json.load(urllib.request.urlopen(urllib.request.Request(f"http://{address}/verify", body), timeout=60))
    rows = answer["rows"]
    return len(rows) == ROWS and all(row["equal"] == right and row["number"] == number for row in rows)


def odd(address, kind):
    """A request that is cut off, no HTTP, far too long, or a byte at a time."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as stream:
        if kind < 0.3:
            stream.sendall(b'POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{"rows"')
            time.sleep(0.2)
        elif kind < 0.6:
            stream.sendall(b"GARBAGE\r\n\r\n")
            stream.recv(4096)
        elif kind < 0.8:
            chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            stream.sendall(b"POST /verify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(640):
                stream.sendall(chunk)
        else:
            for byte in b"POST /health HT":
                stream.sendall(bytes([byte]))
                time.sleep(0.05)


def client(index, address, end, counts):
    """One client until `end`."""
    rng, number = random.Random(index), 0
    while time.time() < end:
        number += 1
        if rng.random() < 0.9:
            try:
                counts["right" if honest(address, rng, number) else "wrong"] += 1
            except OSError:
                counts["lost"] += 1
        else:
            counts["odd"] += 1
            try:
                odd(address, rng.random())
            except OSError:
                # The server hung up on it, as it should.
                pass


def main():
    address, seconds = sys.argv[1], float(sys.argv[2])
    end = time.time() + seconds
    counts = [{"right": 0, "wrong": 0, "lost": 0, "odd": 0} for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client, args=(i, address, end, counts[i])) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = {name: sum(count[name] for count in counts) for name in counts[0]}
    print(", ".join(f"{count} {name}" for name, count in total.items()))


if __name__ == "__main__":
    main()
