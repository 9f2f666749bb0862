#!/usr/bin/env python3
"""A proxy that writes down what a client and a server of the Tinker API say to each other.

    python3 interop/skyrl/record.py FROM_PORT TO_PORT FILE

One JSON object a line: `method`, `path`, `request`, `status`, `answer`. Heartbeats are passed on and not
kept, since they come by the clock. Needs nothing but Python.
"""

import http.server
import json
import sys
import urllib.error
import urllib.request


class Proxy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.forward(None)

    def do_POST(self):
        self.forward(self.rfile.read(int(self.headers["Content-Length"])))

    def forward(self, body):
        request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[2]}{self.path}", data=body, method=self.command)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request) as reply:
                status, answer = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer)
        if "heartbeat" not in self.path:
            said = {
                "method": self.command,
                "path": self.path,
                "request": json.loads(body) if body else None,
                "status": status,
                "answer": json.loads(answer),
            }
            with open(sys.argv[3], "a") as file:
                file.write(json.dumps(said, separators=(",", ":")) + "\n")

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Proxy).serve_forever()
