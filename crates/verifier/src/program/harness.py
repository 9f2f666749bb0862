"""Calls one function of a program and writes what it returns.

Descriptor 3 gives one JSON object (nonce, function, arguments), descriptor 4 takes one line of JSON
(nonce, value). Nothing here is trusted: the program shares the interpreter and may change all of it.
All that it can reach by that is to write another value, which is compared outside.

`json` is not imported for small values: with `re` below it, that takes as long as the interpreter's start.
"""

import builtins
import os
import sys

try:
    from _json import encode_basestring_ascii as quote
except ImportError:
    from json.encoder import encode_basestring_ascii as quote


def read(text):
    # The request is written so that, but for three names, it is Python as well; compiling a long one is slow.
    if len(text) < 10_000:
        return eval(text, {"__builtins__": {}, "true": True, "false": False, "null": None})
    import json

    return json.loads(text)


def write(value):
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if value - value != 0:
            raise ValueError("Out of range float values are not JSON compliant")
        return float.__repr__(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([write(item) for item in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([key(name) + ":" + write(item) for name, item in value.items()]) + "}"
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def key(name):
    if isinstance(name, str):
        return quote(name)
    if name is None or isinstance(name, (int, float)):
        return quote(write(name))
    raise TypeError(f"keys must be str, int, float, bool or None, not {type(name).__name__}")


def main(path):
    with open(3, encoding="utf-8") as channel:
        request = read(channel.read())
    with open(path, encoding="utf-8") as file:
        source = file.read()
    program = {"__name__": "__program__", "__file__": path, "__builtins__": builtins}
    exec(compile(source, path, "exec"), program)
    first, *rest = request["function"].split(".")
    function = program[first]
    for name in rest:
        if isinstance(function, type):
            function = function()
        function = getattr(function, name)
    value = function(*request["arguments"])
    record = f'{{"nonce": {quote(request["nonce"])}, "value": {write(value)}}}\n'.encode()
    while record:
        record = record[os.write(4, record) :]


main(sys.argv[1])
