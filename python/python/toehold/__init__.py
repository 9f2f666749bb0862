"""toehold's verifier, advantages, cuts and trace store, for Python.

>>> import toehold
>>> toehold.verify("math", "1/2", r"So it is \\boxed{0.5}.")
Verdict(outcome="correct", extracted="0.5")
>>> toehold.advantages("grpo", [1.0, 0.0, 0.0, 0.0])[0] > 0
True

Everything is computed by the same code that toehold itself runs. Reward functions for TRL and verl are in
`toehold.rewards`.
"""

from toehold._toehold import (
    VERIFIER_VERSION,
    VERIFIERS,
    Problem,
    Start,
    Trace,
    Traces,
    TraceStore,
    Verdict,
    advantages,
    answer_begins,
    answer_limit,
    centred,
    check_reference,
    even_cuts,
    standardised,
    uniform_cuts,
    verify,
    verify_batch,
)
from toehold.rewards import compute_score, trl_reward

__all__ = [
    "VERIFIERS",
    "VERIFIER_VERSION",
    "Problem",
    "Start",
    "Trace",
    "TraceStore",
    "Traces",
    "Verdict",
    "advantages",
    "answer_begins",
    "answer_limit",
    "centred",
    "check_reference",
    "compute_score",
    "even_cuts",
    "standardised",
    "trl_reward",
    "uniform_cuts",
    "verify",
    "verify_batch",
]
