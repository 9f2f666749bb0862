"""Types and documentation of the compiled module."""

from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Literal, final

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
    "even_cuts",
    "standardised",
    "uniform_cuts",
    "verify",
    "verify_batch",
]

VERIFIER_VERSION: str
"""Version of all rules: grows when any text's verdict changes."""
VERIFIERS: list[str]
"""Names of the rules that run nothing: answer, math_boxed, tolerance, pattern and others."""

_Outcome = Literal[
    "correct",
    "wrong",
    "no_answer",
    "unreadable",
    "budget",
    "timeout",
    "memory",
    "runtime",
    "compile",
    "output_limit",
    "infra",
]

@final
class Verdict:
    """What a verifier found."""

    @property
    def outcome(self) -> _Outcome:
        """Its judgement."""
    @property
    def extracted(self) -> str | None:
        """The answer as the text states it; None where none was found."""
    @property
    def is_correct(self) -> bool:
        """Whether the outcome is `correct`."""
    @property
    def reward(self) -> float:
        """1.0 for a correct answer, else 0.0."""
    def __hash__(self) -> int: ...

def verify(verifier: str, reference: str, text: str) -> Verdict:
    """Compares the answer that `text` states with the reference.

    `text` is prefix and completion together. Depends on its arguments alone: no clock, nothing evaluated. Raises
    ValueError for a verifier that does not exist; a reference that cannot be read gives `unreadable`.
    """

def verify_batch(rows: Sequence[tuple[str, str, str]]) -> list[Verdict]:
    """`verify` for many rows of (verifier, reference, text), on all cores, without the interpreter's lock."""

def check_reference(verifier: str, reference: str) -> None:
    """Raises ValueError, with the reason, where the verifier cannot compare anything with this reference."""

def answer_begins(verifier: str, text: str) -> int | None:
    """The character at which the answer begins to show: a prefix that reaches further gives it away."""

def advantages(objective: str, rewards: Sequence[float]) -> list[float]:
    """Advantages of one group's rewards.

    `objective` is a name (`toehold methods` lists them) or the lines of a recipe's table `[objective]`, such as
    'kind = "grpo"\\ndeviation = "none"'. Objectives that normalise over a batch give what they give before that.
    """

def centred(rewards: Sequence[float]) -> list[float]:
    """Rewards minus their mean; zeros where all are equal."""

def standardised(
    rewards: Sequence[float],
    deviation: Literal["sample", "population", "none"] = "sample",
    epsilon: float = 1e-6,
) -> list[float]:
    """Rewards minus their mean, over their deviation plus epsilon; zeros where all are equal."""

def uniform_cuts(
    length: int,
    limit: int,
    count: int = 3,
    low: float = 0.4,
    high: float = 0.8,
    *,
    seed: int = 0,
    purpose: str = "",
) -> list[int]:
    """At most `count` distinct cuts of a trace of `length` tokens, in rising order.

    Each is equally likely between the shares `low` and `high` of the first `limit` tokens, after which the answer
    shows. `purpose` names the draw: a problem's id, so that problems are cut independently.
    """

def even_cuts(length: int, limit: int, count: int = 9) -> list[int]:
    """Cuts at i / (count + 1) of the first `limit` tokens, in rising order."""

def answer_limit(verifier: str, tokens: Sequence[int], decode: Callable[[list[int]], str]) -> int:
    """How many leading tokens show nothing of the answer. `decode` turns leading tokens into text."""

@final
class Problem:
    """A problem of a store."""

    @property
    def id(self) -> str:
        """Unique in the store."""
    @property
    def problem(self) -> str:
        """The statement."""
    @property
    def answer(self) -> str:
        """The reference."""
    @property
    def verifier(self) -> str:
        """The rule's name."""
    @property
    def solution(self) -> str | None:
        """A worked solution, where one is known."""

@final
class Start:
    """A plain or a prefixed problem of a store."""

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
    @property
    def problem(self) -> str:
        """The problem's id."""
    @property
    def prompt_ids(self) -> list[int]:
        """Tokens before the prefix."""
    @property
    def prefix_ids(self) -> list[int]:
        """Tokens of the prefix; none for a plain problem."""
    @property
    def source_row(self) -> int | None:
        """Row of the trace that the prefix was cut from."""

@final
class Trace:
    """A trace of a store."""

    @property
    def row(self) -> int:
        """Its row, from 1, in the order of writing."""
    @property
    def problem(self) -> str:
        """The problem's id."""
    @property
    def start(self) -> str:
        """The start's id."""
    @property
    def policy(self) -> str:
        """Hash of the weights that sampled it."""
    @property
    def seed(self) -> int:
        """Seed of its campaign."""
    @property
    def index(self) -> int:
        """Its number in the campaign."""
    @property
    def stage(self) -> Literal["collect", "train", "evaluate"]:
        """What it was sampled for."""
    @property
    def outcome(self) -> _Outcome:
        """What the verifier said."""
    @property
    def extracted(self) -> str | None:
        """The answer as it states it."""
    @property
    def verifier_version(self) -> str:
        """Version of the rules; `foreign` for a verdict that was imported."""
    @property
    def stop(self) -> Literal["end_of_text", "length"]:
        """Why it ended."""
    @property
    def prompt_ids(self) -> list[int]:
        """Tokens before the prefix."""
    @property
    def prefix_ids(self) -> list[int]:
        """Tokens that were given."""
    @property
    def completion_ids(self) -> list[int]:
        """Tokens that were sampled."""
    @property
    def log_probabilities(self) -> list[float]:
        """Of each completion token, in nats, under what it was drawn from; NaN where nobody knows."""
    @property
    def temperature(self) -> float:
        """It was sampled at."""

@final
class Traces:
    """Every trace of a store, by rising row, read piece by piece."""

    def __iter__(self) -> Iterator[Trace]: ...
    def __next__(self) -> Trace: ...

@final
class TraceStore:
    """A run's traces, opened for reading: `TraceStore("runs/demo")` or the path of a traces.db."""

    def __new__(cls, path: str | PathLike[str]) -> TraceStore:
        """Raises OSError where there is no store of a version that this build reads."""
    @property
    def path(self) -> PathLike[str]:
        """The file."""
    def problems(self) -> list[Problem]:
        """All problems, in the order they were put."""
    def starts(self, *, problem: str | None = None, prefixed: bool | None = None) -> list[Start]:
        """The starts, in the order they were put."""
    def traces(
        self,
        *,
        problem: str | None = None,
        outcome: str | None = None,
        prefixed: bool | None = None,
        policy: str | None = None,
        after: int = 0,
        limit: int = 1000,
    ) -> list[Trace]:
        """Traces that pass the filter, by row; `after` is the last row of the piece before."""
    def success(self, problem: str | None = None) -> tuple[int, int]:
        """Successes and attempts, of one problem or of all."""
    def __len__(self) -> int:
        """How many traces there are."""
    def __iter__(self) -> Iterator[Trace]:
        """All traces, by row."""
