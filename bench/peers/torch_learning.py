"""A PyTorch training step: forward, policy-gradient loss on completion tokens, backward, AdamW.

Tries the attention modes, and torch.compile on the faster one, and serves the fastest of all.
"""

import os
import sys
import time

import common


def main(folder, tokens, dtype):
    stream = common.protocol()
    torch = common.torch_with_threads()
    rows, first = batch(tokens)
    ids = torch.tensor(rows)
    candidates = {}
    for attention in ("sdpa", "eager"):
        candidates[attention] = step(torch, folder, ids, first, dtype, attention, compiled=False)
    times = {name: timed(run) for name, run in candidates.items()}
    best = min(times, key=times.get)
    if os.environ.get("PEER_COMPILE", "1") == "1":
        try:
            name = f"{best} compiled"
            candidates[name] = step(torch, folder, ids, first, dtype, best, compiled=True)
            times[name] = timed(candidates[name])
        except Exception as error:  # No compiler, or no Python headers: the plain modes are left.
            print(f"torch.compile does not work here: {error}", file=sys.stderr)
    best = min(times, key=times.get)
    print({name: round(seconds, 3) for name, seconds in times.items()}, file=sys.stderr)
    run = candidates[best]
    candidates.clear()
    common.serve(stream, lambda _: run(), f"{dtype}{' autocast' if dtype == 'bf16' else ''}, {best}")


def batch(tokens):
    """Given and completion tokens of every trace, and where completions begin; all of one length."""
    starts = common.starts(tokens)
    given = len(starts[0]["prompt"]) + len(starts[0]["prefix"])
    rows = [s["prompt"] + s["prefix"] + completion for s in starts for completion in s["completions"]]
    assert len({len(row) for row in rows}) == 1
    return rows, given


def step(torch, folder, ids, first, dtype, attention, compiled):
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    model.config.use_cache = False
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    advantages = torch.tensor([1.0, -1.0] * (len(ids) // 2) + [1.0] * (len(ids) % 2))[:, None]
    targets = ids[:, first:]
    kept = ids.shape[1] - first + 1

    def loss():
        # Logits of the completion tokens only.
        logits = model(ids, logits_to_keep=kept).logits[:, :-1].float()
        surprise = cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
        return (surprise.view_as(targets) * advantages).sum() / targets.numel()

    if compiled:
        loss = torch.compile(loss)

    def run():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return ids.numel()

    return run


def timed(run):
    run()
    return min(one(run) for _ in range(2))


def one(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
