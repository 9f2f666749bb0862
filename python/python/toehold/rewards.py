"""Reward functions that TRL and verl take as they are.

TRL: ``GRPOTrainer(reward_funcs=toehold.trl_reward, ...)``, with a column `answer` (or `solution`) beside the prompt,
and `verifier` where it is not `math_boxed`.

verl: ``reward.custom_reward_function.path`` is this file (``python -c 'import toehold.rewards as r;
print(r.__file__)'``) and ``reward.custom_reward_function.name`` is `compute_score`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from toehold._toehold import verify, verify_batch

DEFAULT = "math_boxed"
"""The rule where none is named: only a box states an answer, so a number that is merely mentioned earns nothing."""


def trl_reward(
    completions: Sequence[Any],
    answer: Sequence[str] | None = None,
    solution: Sequence[str] | None = None,
    verifier: Sequence[str] | None = None,
    prefix: Sequence[str] | None = None,
    **_: Any,
) -> list[float]:
    r"""1.0 for each completion with the right answer, else 0.0.

    A completion is text or a list of messages, whose last one counts. `prefix` is what was given before it, which is
    judged together with it.

    >>> trl_reward(["\\boxed{4}", "\\boxed{5}"], answer=["4", "4"])
    [1.0, 0.0]
    >>> trl_reward([[{"role": "assistant", "content": "answer: 3"}]], answer=["3"], verifier=["answer"])
    [1.0]
    """
    references = answer if answer is not None else solution
    if references is None:
        raise ValueError("the data set has neither a column `answer` nor a column `solution`")
    count = len(completions)
    rules = verifier if verifier is not None else [DEFAULT] * count
    prefixes = prefix if prefix is not None else [""] * count
    texts = [before + _text(completion) for before, completion in zip(prefixes, completions, strict=True)]
    rows = [(rule, str(reference), text) for rule, reference, text in zip(rules, references, texts, strict=True)]
    return [verdict.reward for verdict in verify_batch(rows)]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, float]:
    r"""verl's reward function. `extra_info` may have `verifier` and `prefix`.

    >>> compute_score("math", "\\boxed{0.5}", "1/2")
    {'score': 1.0, 'acc': 1.0}
    """
    given = extra_info or {}
    rule = str(given.get("verifier") or DEFAULT)
    reward = verify(rule, str(ground_truth), str(given.get("prefix") or "") + solution_str).reward
    return {"score": reward, "acc": reward}


def _text(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] if completion else ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
