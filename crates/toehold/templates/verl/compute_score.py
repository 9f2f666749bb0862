

def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    """verl's reward function. The agent loop judges by itself; this serves any other loop over the same rows."""
    given = extra_info or {}
    text = given.get("prefix", "") + solution_str
    row = {"verifier": given.get("verifier", "answer"), "answer": ground_truth, "text": text}
    [reward] = rewards([row])
    return {"score": reward, "acc": reward, "problem_id": given.get("problem", ""), "start": given.get("start", "")}
