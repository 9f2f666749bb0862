"""Copies a Qwen3 folder with heads of 16 into one with heads of 32 that computes the same.

vLLM's attention on processors wants heads of at least 32. Rotary pairs of a head of 16, (i, i + 8) at the frequency
of i / 8, are put where a head of 32 has that frequency, (2 i, 2 i + 16); everything between is zero. The norm of a
head then divides by a root of mean squares that is smaller by the square root of 2, for queries and keys alike, and
the scores are divided by the root of 32 instead of 16: together a factor of the square root of 2, which the queries'
norm takes out. The norm's epsilon stays, so the two differ by about as much as it is small, 1e-6.

The copy's head is a matrix of its own beside the embedding, but for a third argument `tied`: on processors vLLM 0.32
multiplies by a packed copy of a tied head, which `reload_weights` leaves as it was.
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

source, target = map(pathlib.Path, sys.argv[1:3])
config = json.loads((source / "config.json").read_text())
assert config["model_type"] == "qwen3" and config["head_dim"] == 16, "expected a Qwen3 folder with heads of 16"
where = [2 * i for i in range(8)] + [16 + 2 * i for i in range(8)]


def rows(weight):
    heads = weight.reshape(-1, 16, *weight.shape[1:])
    wide = torch.zeros(heads.shape[0], 32, *weight.shape[1:])
    wide[:, where] = heads
    return wide.reshape(-1, *weight.shape[1:]).contiguous()


tensors = load_file(source / "model.safetensors")
for name, weight in list(tensors.items()):
    if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
        tensors[name] = rows(weight)
    elif name.endswith("o_proj.weight"):
        tensors[name] = rows(weight.T.contiguous()).T.contiguous()
    elif name.endswith(("q_norm.weight", "k_norm.weight")):
        # The root of mean squares over 32 is that over 16 divided by the root of 2, so what is normed is larger by
        # it; for keys and queries once each, of which the longer scale takes one.
        tensors[name] = rows(weight) / (2 ** 0.5 if "q_norm" in name else 1.0)
is_tied = sys.argv[3:] == ["tied"]
if not is_tied:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
target.mkdir(parents=True, exist_ok=True)
for path in source.iterdir():
    if path.suffix == ".json":
        shutil.copy(path, target)
config |= {"head_dim": 32, "tie_word_embeddings": is_tied}
(target / "config.json").write_text(json.dumps(config, indent=2))
save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
