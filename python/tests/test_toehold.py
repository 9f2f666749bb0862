"""The wheel as it is installed."""

import inspect
import math
import re
import sqlite3
import struct
import threading
from pathlib import Path

import pytest

import toehold


def test_verdicts():
    cases = [
        ("math", "1/2", r"\boxed{0.5}", "correct", "0.5"),
        ("math_boxed", "4", "it is 4", "no_answer", None),
        ("answer", "7", "the answer is 8", "wrong", "8"),
        ("chain", "3 0 2", "answer A 3 B 0 C 2", "correct", "3 0 2"),
        ("number", "not a number", r"\boxed{1}", "unreadable", None),
    ]
    for verifier, reference, text, outcome, extracted in cases:
        verdict = toehold.verify(verifier, reference, text)
        assert verdict.outcome == outcome, (verifier, text, verdict)
        assert verdict.reward == float(verdict.is_correct) == float(outcome == "correct")
        if extracted and verifier != "chain":
            assert verdict.extracted == extracted, verdict
    assert toehold.verify("math", "1", r"\boxed{1}") == toehold.verify("math", "1", r"\boxed{1}")


def test_a_batch_is_its_rows():
    rows = [("math", str(n), rf"\boxed{{{n % 7}}}") for n in range(500)]
    assert toehold.verify_batch(rows) == [toehold.verify(*row) for row in rows]
    assert toehold.verify_batch([]) == []


def test_bad_input_says_what_is_wrong():
    with pytest.raises(ValueError, match="unknown verifier `maths`"):
        toehold.verify("maths", "1", "1")
    with pytest.raises(ValueError, match="neither words nor mathematics"):
        toehold.check_reference("math", r"\frac{1}{")
    with pytest.raises(ValueError, match="not known"):
        toehold.advantages("grppo", [1.0])
    with pytest.raises(ValueError, match="deviation"):
        toehold.standardised([1.0, 0.0], "both")
    with pytest.raises(ValueError, match="0 <= low <= high <= 1"):
        toehold.uniform_cuts(10, 10, 3, 0.8, 0.4)
    with pytest.raises(OSError, match="does not exist"):
        toehold.TraceStore("nowhere.db")
    with pytest.raises(ValueError, match="neither a column"):
        toehold.trl_reward(["a"])


def test_advantages():
    assert toehold.advantages("reinforce", [1.0, 0.0, 0.0, 0.0]) == [0.75, -0.25, -0.25, -0.25]
    assert toehold.centred([1.0, 1.0]) == [0.0, 0.0]
    # (1 - 1/4) / (sqrt(3/4 / 3) + 1e-6), by hand.
    assert math.isclose(toehold.advantages("grpo", [1.0, 0.0, 0.0, 0.0])[0], 0.75 / (0.5 + 1e-6))
    assert toehold.advantages('kind = "grpo"\ndeviation = "none"', [1.0, 0.0]) == [0.5, -0.5]
    assert toehold.advantages("rloo", [1.0, 0.0, 0.0]) == [1.0, -0.5, -0.5]
    assert toehold.standardised([1.0, 1.0, 0.0, 0.0], "population", 0.0) == [1.0, 1.0, -1.0, -1.0]


def test_cuts():
    assert toehold.even_cuts(100, 45) == [5, 9, 14, 18, 23, 27, 32, 36, 41]
    cuts = toehold.uniform_cuts(100, 100, purpose="p1")
    assert len(cuts) == 3 and all(40 <= cut <= 80 for cut in cuts) and cuts == sorted(cuts)
    assert cuts == toehold.uniform_cuts(100, 100, purpose="p1") != toehold.uniform_cuts(100, 100, purpose="p2")
    words = ["so ", "3+4 ", "is ", "7 ", "\\boxed{", "7", "}"]
    assert toehold.answer_limit("answer", range(7), lambda ids: "".join(words[i] for i in ids)) == 4
    assert toehold.answer_begins("math", "größer: \\boxed{7}") == 8
    with pytest.raises(KeyError, match="gone"):
        toehold.answer_limit("answer", [0, 1], lambda ids: {}["gone"])


def test_rewards_as_the_trainers_call_them():
    # TRL 1.16 passes every column by its name, and more.
    called = toehold.trl_reward(
        prompts=["p", "p"],
        completions=["3 B 0", "3 B 1"],
        completion_ids=[[1], [2]],
        trainer_state=None,
        log_extra=None,
        answer=["3 0", "3 0"],
        verifier=["chain", "chain"],
        prefix=["answer A ", "answer A "],
    )
    assert called == [1.0, 0.0]
    # verl 0.9.1 passes four by name.
    score = toehold.compute_score(
        data_source="d", solution_str="answer: 3", ground_truth=3, extra_info={"verifier": "answer", "index": 1}
    )
    assert score == {"score": 1.0, "acc": 1.0}


def store_at(path: Path) -> Path:
    """A store written by hand, by docs/trace-store.md alone."""
    schema = (Path(__file__).parents[2] / "crates/rollout/src/store/schema.rs").read_text()
    steps = re.findall(r'^const V\d+: &str = "(.*?)";$', schema, re.S | re.M)
    ids = lambda *tokens: struct.pack(f"<{len(tokens)}I", *tokens)  # noqa: E731
    db = sqlite3.connect(path / "traces.db")
    for step in steps:
        db.executescript(step)
    db.execute("PRAGMA application_id = 1953457512")
    db.execute(f"PRAGMA user_version = {len(steps)}")
    db.execute("INSERT INTO problems (id, problem, answer, verifier) VALUES ('p', 'why', '4', 'answer')")
    db.execute("INSERT INTO starts VALUES (1, 'aa', 1, ?, ?, NULL, NULL)", (ids(1, 2), b""))
    db.execute("INSERT INTO starts VALUES (2, 'bb', 1, ?, ?, 1, 3)", (ids(1, 2), ids(3)))
    db.execute("INSERT INTO policies VALUES (1, 'ff', 'm', 't', 0, NULL)")
    db.execute("INSERT INTO sampling VALUES (1, 0.5, 0, 1.0, 9, ?)", (ids(0),))
    for row in range(1, 601):
        outcome = "correct" if row % 3 == 0 else "wrong"
        values = (row, 1 + row % 2, row, ids(7, 8, row), struct.pack("<3f", -1.0, -0.5, math.nan), outcome)
        db.execute(
            "INSERT INTO traces VALUES (?, ?, 1, 5, ?, 'collect', 1, ?, ?, 'end_of_text', ?, '4', '1')", values
        )
    db.commit()
    db.close()
    return path


def test_a_store_is_read(tmp_path):
    store = toehold.TraceStore(store_at(tmp_path))
    assert len(store) == 600 and store.success() == (200, 600) and store.success("q") == (0, 0)
    [problem] = store.problems()
    assert (problem.id, problem.answer, problem.verifier, problem.solution) == ("p", "4", "answer", None)
    assert [(start.id, start.prefix_ids, start.source_row) for start in store.starts()] == [
        ("aa", [], None),
        ("bb", [3], 1),
    ]
    assert [start.id for start in store.starts(prefixed=True)] == ["bb"]
    assert [trace.row for trace in store] == list(range(1, 601))
    trace = store.traces(outcome="correct", prefixed=True, limit=1)[0]
    assert (trace.row, trace.completion_ids, trace.prefix_ids, trace.temperature) == (3, [7, 8, 3], [3], 0.5)
    assert trace.log_probabilities[:2] == [-1.0, -0.5] and math.isnan(trace.log_probabilities[2])
    assert [trace.row for trace in store.traces(after=598)] == [599, 600]
    with pytest.raises(ValueError, match="outcome"):
        store.traces(outcome="right")
    # From any thread: a data loader's workers are threads, too.
    counted = []
    threads = [threading.Thread(target=lambda: counted.append(sum(1 for _ in store))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [600] * 4


def test_the_stub_names_what_is_there():
    stub = (Path(toehold.__file__).parent / "_toehold.pyi").read_text()
    for name in toehold.__all__:
        found = getattr(toehold, name)
        if inspect.getmodule(found) is toehold.rewards:
            continue
        assert f"def {name}(" in stub or f"class {name}:" in stub or f"{name}: " in stub, name
