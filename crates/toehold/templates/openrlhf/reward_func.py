

# What ends a text; OpenRLHF hands over the decoded tokens with these written out.
ENDS = {{ ends }}


def reward_func(queries, prompts, labels):
    """OpenRLHF's reward function: `--reward.remote_url toehold_reward.py`."""
    rows = []
    for query, prompt, label in zip(queries, prompts, labels, strict=True):
        asked = json.loads(label)
        # `prompt` ends with the prefix, which is judged together with what follows it.
        text = asked["prefix"] + query[len(prompt) :] if query.startswith(prompt) else query
        cut = True
        while cut:
            cut = [end for end in ENDS if text.endswith(end)]
            text = text[: -len(cut[0])] if cut else text
        rows.append({"verifier": asked["verifier"], "answer": asked["answer"], "text": text})
    scores = rewards(rows)
    return {"rewards": scores, "scores": scores, "extra_logs": {}}
