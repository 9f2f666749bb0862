"""Rollouts that begin at exact token ids, and their rewards: two functions that slime calls by their names.

The ids come from the row's `metadata`; its `prompt` is only for the log. slime takes `Sample.tokens` as they are
where they are there, and learns from the last `response_length` of them: the prefix is before those, so nothing of
it is learnt from. Prefix and completion are judged together.
"""

import asyncio

from slime.rollout import sglang_rollout
from toehold_reward import rewards

# It decides what goes to the engine. A slime without it would encode the text again, and nobody would notice.
_prepared = getattr(sglang_rollout, "_prepare_prompt_ids", None)
if _prepared is None:
    raise ImportError(
        "this slime does not take the ids of `Sample.tokens`: it would encode the prompt's text again, and a prefix "
        "may come out as other tokens; check out the version that README.md names"
    )


async def generate(args, sample, sampling_params):
    """`--custom-generate-function-path toehold_slime.generate`: slime's own generation, begun at the row's ids."""
    given = sample.metadata
    start = [*given["prompt_ids"], *given["prefix_ids"]]
    # One that goes on after an interruption has its start and what was written already.
    if sample.response_length == 0:
        sample.tokens = list(start)
    asked = list(_prepared(sample, None, None))
    if asked[: len(start)] != start:
        raise RuntimeError(f"slime would begin start {given['start']} at {asked}, which should be {start}")
    return await sglang_rollout.generate(args, sample, sampling_params)


async def reward(args, sample, **_):
    """`--custom-rm-path toehold_slime.reward`: 1.0 or 0.0 for prefix and completion together."""
    given = sample.metadata
    tokenizer = sglang_rollout.GenerateState(args).tokenizer
    text = tokenizer.decode(sample.tokens[len(given["prompt_ids"]) :], skip_special_tokens=True)
    asked = {"verifier": given["verifier"], "answer": given["answer"], "text": text}
    [score] = await asyncio.to_thread(rewards, [asked])
    return score
