#!/usr/bin/env python3
"""Writes the adapter that SkyRL's server begins with as a folder of PEFT's that toehold opens.

    python3 interop/skyrl/start.py SERVER BASE KEPT RANK OUT

SERVER is the server's address, BASE the model folder by the server's name for it, KEPT the folder that serve.sh was
given. The server draws A by rank and seed (0 here, as in a recipe) and B as zeros; so what is saved before any step is
what every run of that rank and seed begins with. Needs nothing but Python.
"""

import json
import pathlib
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request

server, base, kept, rank, out = sys.argv[1], *map(pathlib.Path, sys.argv[2:4]), int(sys.argv[4]), pathlib.Path(sys.argv[5])


def ask(route, **body):
    request = urllib.request.Request(f"{server}/api/v1/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.loads(answer.read())


def wait(route, **body):
    request = ask(route, **body)["request_id"]
    while True:
        try:
            answer = ask("retrieve_future", request_id=request)
        except urllib.error.HTTPError as error:
            if error.code != 408:
                raise
            answer = {"type": "try_again"}
        if answer.get("type") != "try_again":
            return answer
        time.sleep(0.2)


session = ask("create_session", tags=[], sdk_version="0", type="create_session")["session_id"]
model = wait("create_model", session_id=session, base_model=str(base), lora_config={"rank": rank, "seed": 0},
             model_seq_id=1, type="create_model")["model_id"]
wait("save_weights_for_sampler", model_id=model, path="start", seq_id=2, type="save_weights_for_sampler")
ask("unload_model", model_id=model, type="unload_model")

out.mkdir(parents=True, exist_ok=True)
with tarfile.open(kept / "checkpoints" / model / "sampler_weights" / "start.tar.gz") as packed:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        member = next(member for member in packed.getmembers() if member.name.endswith(name))
        (out / name).write_bytes(packed.extractfile(member).read())
# SkyRL leaves out which matrices it adapts; they are all seven of a layer.
config = json.loads((out / "adapter_config.json").read_text())
config |= {"target_modules": "all-linear", "base_model_name_or_path": str(base)}
(out / "adapter_config.json").write_text(json.dumps(config, indent=2))
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(base / name, out)
