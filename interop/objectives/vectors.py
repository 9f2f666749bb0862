"""Numbers of the reference implementations, for crates/training/tests/objectives_reference.rs.

    python -m venv venv
    venv/bin/pip install torch transformers datasets accelerate trl ray omegaconf hydra-core tensordict codetiming dill
    venv/bin/pip install --no-deps verl
    venv/bin/python interop/objectives/vectors.py crates/training/tests/data/objectives.json

Everything runs on a CPU in double precision. `source` says where a case's numbers come from: functions
of verl and TRL that are called here, or, where no package has the method, its published formula
written anew (`formula`). Coefficients are d loss / d log-probability of each token by autograd, the
division by the batch included.
"""

import json
import sys
from collections import defaultdict
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import torch
from trl.rewards import get_soft_overlong_punishment
from trl.trainer.grpo_trainer import GRPOTrainer
from verl.trainer.ppo import core_algos as verl
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_weights
from verl.workers.config import ActorConfig

torch.set_default_dtype(torch.float64)
LIMIT = 8
# Rewards and lengths. A completion of LIMIT tokens was cut off.
GROUPS = [
    ([1, 0, 0, 0, 0], [3, 8, 2, 5, 1]),
    ([1, 1, 0, 1], [2, 4, 6, 3]),
    ([0, 0, 0], [4, 1, 2]),
    ([1, 1], [7, 8]),
]
# Successes that were collected of a group's start: lengths, and the collection's counts.
STORED = {0: ([4], 2, 40), 2: ([3, 2], 2, 9)}


def numbers(count, low, high, generator):
    values = torch.rand(count, generator=generator) * (high - low) + low
    # Short in JSON, and the same on both sides: five decimals.
    return [round(float(value), 5) for value in values]


def make_batch():
    generator = torch.Generator().manual_seed(7)
    groups = []
    for index, (rewards, lengths) in enumerate(GROUPS):
        traces = []
        for length in lengths:
            current = numbers(length, -3.0, -0.05, generator)
            # Ratios on both sides of every clip; sampled log-probabilities stay below 0.
            apart = numbers(length, -0.6, 0.6, generator)
            behavior = [round(min(c - a, -0.01), 5) for c, a in zip(current, apart)]
            traces.append({"current": current, "behavior": behavior, "entropy": numbers(length, 0.0, 2.0, generator)})
        group = {"rewards": rewards, "traces": traces, "stored": [], "successes": 0, "attempts": 0}
        if index in STORED:
            lengths, group["successes"], group["attempts"] = STORED[index]
            for length in lengths:
                current, behavior = numbers(length, -3.0, -0.05, generator), numbers(length, -3.0, -0.05, generator)
                group["stored"].append({"current": current, "behavior": behavior})
        groups.append(group)
    return groups


BATCH = make_batch()
INDEX = np.array([index for index, group in enumerate(BATCH) for _ in group["traces"]])
REWARDS = torch.tensor([float(reward) for group in BATCH for reward in group["rewards"]])
LENGTHS = [len(trace["current"]) for group in BATCH for trace in group["traces"]]


def padded(key, traces=None):
    traces = traces or [trace for group in BATCH for trace in group["traces"]]
    rows = torch.zeros(len(traces), LIMIT)
    for row, trace in zip(rows, traces):
        row[: len(trace[key])] = torch.tensor(trace[key])
    return rows


CURRENT, BEHAVIOR, ENTROPY = padded("current"), padded("behavior"), padded("entropy")
MASK = torch.tensor([[float(at < length) for at in range(LIMIT)] for length in LENGTHS])
CASES = []


def leaf():
    return CURRENT.clone().requires_grad_(True)


def in_groups(function):
    """One advantage per trace from a function of a group's rewards."""
    rewards = [torch.tensor([float(reward) for reward in group["rewards"]]) for group in BATCH]
    return torch.cat([function(of_group) for of_group in rewards])


def case(name, source, objective, aggregation, advantages, loss, log_probs, lengths=LENGTHS, **more):
    loss.backward()
    gradient = [row[:length].tolist() for row, length in zip(log_probs.grad, lengths)]
    rounded = lambda values: [float(f"{value:.9g}") for value in values]
    CASES.append(
        {
            "name": name,
            "source": source,
            "objective": objective,
            "aggregation": aggregation,
            "advantages": rounded(advantages.tolist()),
            "coefficients": [rounded(row) for row in gradient],
            **{key: [rounded(row) for row in value] for key, value in more.items()},
        }
    )


# --- verl -----------------------------------------------------------------------------------------

AGGREGATIONS = {
    "token-mean": "token-mean",
    "trace-mean": "seq-mean-token-mean",
    "constant": "seq-mean-token-sum-norm",
}


def token_rewards(rewards, mask=MASK):
    """The reward on the last token, as verl keeps it."""
    rows = torch.zeros_like(mask)
    rows[torch.arange(len(rewards)), mask.sum(-1).long() - 1] = rewards
    return rows


def verl_grpo(rewards=REWARDS, index=INDEX, mask=MASK, **settings):
    return verl.compute_grpo_outcome_advantage(token_rewards(rewards, mask), mask, index, **settings)[0]


def verl_loss(kind, log_probs, old, advantages, aggregation, low, high, mask=MASK, weights=None):
    config = ActorConfig(
        strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1,
        clip_ratio=low, clip_ratio_low=low, clip_ratio_high=high,
    )
    config.global_batch_info["loss_scale_factor"] = LIMIT
    function = verl.get_policy_loss_fn(kind)
    return function(old, log_probs, advantages, mask, AGGREGATIONS[aggregation], config, weights)[0]


def verl_case(name, objective, aggregation, advantages, kind="vanilla", low=0.2, high=0.2, source="", **more):
    log_probs = leaf()
    loss = verl_loss(kind, log_probs, BEHAVIOR, advantages, aggregation, low, high)
    per_trace = (advantages * MASK).sum(-1) / MASK.sum(-1)
    source = source or "verl"
    case(name, f"{source}; verl's loss `{kind}`", objective, aggregation, per_trace, loss, log_probs, **more)


def of_verl():
    grpo = verl_grpo()
    centred = verl_grpo(norm_adv_by_std_in_grpo=False)
    whole = verl.compute_rloo_vectorized_outcome_advantage(token_rewards(REWARDS), MASK, INDEX)[0]
    discount = SimpleNamespace(gamma=1.0)
    plus = verl.compute_reinforce_plus_plus_outcome_advantage(token_rewards(REWARDS), MASK, config=discount)[0]
    base = verl.compute_reinforce_plus_plus_baseline_outcome_advantage(token_rewards(REWARDS), MASK, INDEX)[0]
    for aggregation in AGGREGATIONS:
        verl_case("grpo", 'kind = "grpo"', aggregation, grpo)
    verl_case("dapo", 'kind = "grpo"\nclip_high = 0.28', "token-mean", grpo, high=0.28)
    verl_case("dr-grpo", 'kind = "grpo"\ndeviation = "none"', "constant", centred)
    verl_case("reinforce", 'kind = "reinforce"', "token-mean", centred, kind="gpg")
    verl_case("rloo", 'kind = "rloo"', "token-mean", whole, kind="gpg")
    verl_case("reinforce++", 'kind = "reinforce-plus-plus"', "token-mean", plus)
    verl_case("reinforce++-baseline", 'kind = "reinforce-plus-plus"\nbaseline = "group"', "token-mean", base)
    verl_case("gspo", 'kind = "gspo"', "trace-mean", grpo, kind="gspo", low=3e-4, high=4e-4)
    wide = 'kind = "gspo"\nclip_low = 0.2\nclip_high = 0.28'
    verl_case("gspo, wide", wide, "trace-mean", grpo, kind="gspo", high=0.28)
    verl_case("gmpo", 'kind = "gmpo"', "trace-mean", grpo, kind="geo_mean", low=0.4, high=0.4)
    verl_case("cispo", 'kind = "cispo"', "token-mean", grpo, kind="cispo", low=10.0, high=0.2)
    both = 'kind = "cispo"\nclip_low = 0.1\nclip_high = 0.3'
    verl_case("cispo, both bounds", both, "token-mean", grpo, kind="cispo", low=0.1, high=0.3)


def of_mismatch():
    """verl's decoupled mode at the first step on a batch: the old policy is the current one, and what the
    sampler gives to a token enters by the weight alone."""
    named = [
        ("tis", "token", "2.0", 'beyond = "truncate", level = "token"'),
        ("tis, tight", "token", "1.2", 'beyond = "truncate", level = "token", high = 1.2'),
        ("tis, whole trace", "sequence", "1.5", 'beyond = "truncate", level = "trace", high = 1.5'),
        ("icepop", "token", "0.8_1.3", 'beyond = "mask", level = "token", low = 0.8, high = 1.3'),
        ("mis", "sequence", "0.5_1.5", 'beyond = "mask", level = "trace", low = 0.5, high = 1.5'),
    ]
    advantages = verl_grpo()
    per_trace = (advantages * MASK).sum(-1) / MASK.sum(-1)
    for kind in ["vanilla", "gspo"]:
        for name, level, threshold, table in named:
            weights, _ = compute_rollout_correction_weights((CURRENT - BEHAVIOR) * MASK, MASK, level, threshold)
            log_probs = leaf()
            loss = verl_loss(kind, log_probs, CURRENT, advantages, "token-mean", 0.2, 0.2, weights=weights)
            objective = {"vanilla": "grpo", "gspo": "gspo"}[kind]
            settings = f'kind = "{objective}"\nmismatch = {{{table}}}'
            source = f"verl's correction weights and its loss `{kind}`"
            case(f"{name} with {objective}", source, settings, "token-mean", per_trace, loss, log_probs)


def of_overlong():
    punish = get_soft_overlong_punishment(max_completion_len=LIMIT, soft_punish_cache=4)
    penalties = torch.tensor(punish([[0] * length for length in LENGTHS]), dtype=torch.float64)
    verl_case(
        "dapo, soft penalty",
        'kind = "grpo"\nclip_high = 0.28\noverlong = {kind = "penalty", tail = 4}',
        "token-mean",
        verl_grpo(REWARDS + penalties),
        high=0.28,
        source="TRL's soft overlong punishment; verl",
    )
    masked = MASK * torch.tensor([[float(length < LIMIT)] for length in LENGTHS])
    advantages, log_probs = verl_grpo(), leaf()
    loss = verl_loss("vanilla", log_probs, BEHAVIOR, advantages, "token-mean", 0.2, 0.28, mask=masked)
    objective = 'kind = "grpo"\nclip_high = 0.28\noverlong = {kind = "mask"}'
    per_trace = (advantages * MASK).sum(-1) / MASK.sum(-1)
    case("dapo, masked", "verl with a mask of zeros", objective, "token-mean", per_trace, loss, log_probs)


# --- TRL ------------------------------------------------------------------------------------------


def trl_loss(log_probs, advantages, **settings):
    """TRL's own loss, on a stand-in for its trainer that gives these log-probabilities."""
    standard = dict(
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", beta=0.0,
        epsilon_low=0.2, epsilon_high=0.2, use_vllm=False, vllm_importance_sampling_correction=False,
        current_gradient_accumulation_steps=1, max_completion_length=LIMIT, aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
    )
    trainer = SimpleNamespace(**{**standard, **settings})
    trainer.args = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1)
    same = lambda values, **_: values
    trainer.accelerator = SimpleNamespace(num_processes=1, gather=same, reduce=same, gather_for_metrics=same)
    trainer.model = SimpleNamespace(training=False)
    trainer._metrics = defaultdict(lambda: defaultdict(list))
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (log_probs, ENTROPY, None)
    inputs = dict(
        prompt_ids=torch.zeros(len(LENGTHS), 1), prompt_mask=torch.ones(len(LENGTHS), 1),
        completion_ids=torch.zeros_like(MASK), completion_mask=MASK, advantages=advantages,
        old_per_token_logps=BEHAVIOR, num_items_in_batch=MASK.sum(),
    )
    return GRPOTrainer._compute_loss(trainer, None, inputs)


def of_trl():
    with_deviation = in_groups(lambda r: (r - r.mean()) / (r.std() + 1e-4))
    without = in_groups(lambda r: r - r.mean())
    source = "TRL's loss; its advantage in a line"
    for name, settings, objective, aggregation, advantages in [
        ("grpo, TRL", dict(loss_type="grpo"), 'kind = "grpo"\nepsilon = 1e-4', "trace-mean", with_deviation),
        ("dr-grpo, TRL", dict(loss_type="dr_grpo"), 'kind = "grpo"\ndeviation = "none"', "constant", without),
        ("dapo, TRL", dict(loss_type="dapo", epsilon_high=0.28),
         'kind = "grpo"\nclip_high = 0.28\nepsilon = 1e-4', "token-mean", with_deviation),
        ("cispo, TRL", dict(loss_type="cispo", epsilon_high=1.25),
         'kind = "cispo"\nclip_high = 0.25\nepsilon = 1e-4', "token-mean", with_deviation),
        ("gspo, TRL", dict(loss_type="grpo", importance_sampling_level="sequence", epsilon_high=0.28),
         'kind = "gspo"\nclip_low = 0.2\nclip_high = 0.28\nepsilon = 1e-4', "trace-mean", with_deviation),
    ]:
        log_probs = leaf()
        loss = trl_loss(log_probs, advantages, **settings)
        case(name, source, objective, aggregation, advantages, loss, log_probs)


# --- formulas written anew ------------------------------------------------------------------------


def spread(advantages):
    return advantages.unsqueeze(-1) * MASK


def policy_gradient(name, objective, advantages):
    log_probs = leaf()
    loss = -(spread(advantages) * log_probs).sum() / MASK.sum()
    case(name, "formula", objective, "token-mean", advantages, loss, log_probs)


def weighting(of_p, at_zero, at_one):
    def advantages(rewards):
        p = rewards.mean()
        if p == 0:
            return torch.full_like(rewards, at_zero)
        if p == 1:
            return torch.full_like(rewards, at_one)
        return of_p(p) * (rewards - p)

    return advantages


def of_formulas():
    right = REWARDS == 1
    for name, success, failure in [("w-reinforce", 0.1, 1.0), ("psr", 1.0, 0.0), ("nsr", 0.0, 1.0)]:
        advantages = torch.where(right, torch.tensor(success), torch.tensor(-failure))
        objective = f'kind = "w-reinforce"\nsuccess = {success}\nfailure = {failure}'
        verl_case(name, objective, "token-mean", spread(advantages), source="formula")
    named = {
        "linear": weighting(lambda p: 1 / p, -1.0, 0.0),
        "sqrt": weighting(lambda p: 1 / (p * (1 - p) ** 0.5), -1.0, 0.0),
        "uniform": weighting(lambda p: 1 / (p * (1 - p)), -1.0, 1.0),
    }
    for name, function in named.items():
        objective = f'kind = "asymmetric-prompt-weighting"\nweighting = "{name}"'
        policy_gradient(f"asymmetric prompt weighting, {name}", objective, in_groups(function))
    rates = "false_negative = 0.2\nfalse_positive = 0.1"
    backward = f'kind = "noisy-verifier"\ncorrection = "backward"\n{rates}'
    policy_gradient("noisy verifier, backward", backward, (REWARDS - 0.1) / 0.7)
    forward = f'kind = "noisy-verifier"\ncorrection = "forward"\n{rates}'
    policy_gradient("noisy verifier, forward", forward, torch.where(right, 0.2, -0.8))
    # Weighted GRPO: the rarer outcome of a group, after the standardisation.
    share = in_groups(lambda rewards: torch.full_like(rewards, float(rewards.mean())))
    weights = torch.where(right & (share < 0.5), 2.0, torch.where(~right & (share > 0.5), 3.0, 1.0))
    objective = 'kind = "weighted-grpo"\nhard_success = 2.0\neasy_failure = 3.0'
    verl_case("weighted grpo", objective, "token-mean", verl_grpo() * weights.unsqueeze(-1), source="verl and a weight")
    # ERPO: one failure more in the statistics of a group in which all succeed.
    def reactivated(rewards):
        counted = torch.cat([rewards, torch.zeros(1)]) if bool((rewards == 1).all()) else rewards
        return (rewards - counted.mean()) / (counted.std() + 1e-6)

    verl_case("erpo", 'kind = "erpo"', "token-mean", spread(in_groups(reactivated)), high=0.28, source="formula")
    # RL-ZVP: entropies where a group is silent.
    silent_right, silent_wrong = (share == 1).unsqueeze(-1), (share == 0).unsqueeze(-1)
    most = ENTROPY.max(-1, keepdim=True).values
    tokens = torch.where(silent_right, 0.1 * ENTROPY, torch.where(silent_wrong, -0.1 * (most - ENTROPY), verl_grpo()))
    log_probs = leaf()
    loss = verl_loss("vanilla", log_probs, BEHAVIOR, tokens * MASK, "token-mean", 0.2, 0.28)
    marks = verl_grpo()[:, 0] + 0.1 * (share == 1) - 0.1 * (share == 0)
    source = "formula; verl's loss `vanilla`"
    case("rl-zvp", source, 'kind = "rl-zvp"', "token-mean", marks, loss, log_probs)


def of_stored():
    """Collected successes in the group: their tokens follow those of the batch in the division."""
    chosen = {index: group["stored"] for index, group in enumerate(BATCH)}

    def joint(name, source, objective, aggregation, joining, advantage_of, fresh_loss, stored_loss):
        traces = [(index, trace) for index, group in joining.items() for trace in group]
        fresh, stored = leaf(), padded("current", [trace for _, trace in traces]).requires_grad_(True)
        own, joined = [], []
        for index, group in enumerate(BATCH):
            rewards = torch.tensor([float(reward) for reward in group["rewards"]])
            of_group, of_stored = advantage_of(rewards, len(joining[index]))
            own.append(of_group)
            joined.append(of_stored)
        own, joined = torch.cat(own), torch.cat(joined)
        lengths = [len(trace["current"]) for _, trace in traces]
        mask = torch.tensor([[float(at < length) for at in range(LIMIT)] for length in lengths])
        rows = fresh_loss(fresh, own.unsqueeze(-1)) * MASK
        more = stored_loss(stored, joined.unsqueeze(-1), traces) * mask
        total = {"token-mean": MASK.sum() + mask.sum(), "constant": (len(own) + len(joined)) * LIMIT}[aggregation]
        loss = (rows.sum() + more.sum()) / total
        loss.backward()
        given = [row[:length].tolist() for row, length in zip(stored.grad, lengths)]
        fresh_again, value = fresh, fresh.grad.clone()
        fresh_again.grad = None
        case(name, source, objective, aggregation, own, (fresh_again * value).sum(), fresh_again,
             stored_coefficients=given, stored_advantages=[joined.tolist()])

    def clipped(log_probs, advantages):
        ratio = (log_probs - BEHAVIOR).exp()
        return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages)

    def standardised(rewards, joined):
        union = torch.cat([rewards, torch.ones(joined)])
        advantages = (union - union.mean()) / (union.std() + 1e-6)
        return advantages[: len(rewards)], advantages[len(rewards):]

    def centred(rewards, joined):
        union = torch.cat([rewards, torch.ones(joined)])
        advantages = union - union.mean()
        return advantages[: len(rewards)], advantages[len(rewards):]

    joint("rlep", "formula", 'kind = "rlep"', "token-mean", chosen, standardised, clipped,
          lambda logp, advantages, _: -(logp - logp.detach()).exp() * advantages)
    one = {index: stored[:1] for index, stored in chosen.items()}
    joint("luffy", "formula", 'kind = "luffy"', "constant", one, centred,
          lambda logp, advantages: -(logp - BEHAVIOR).exp() * advantages,
          lambda logp, advantages, _: -advantages * logp.exp() / (logp.exp() + 0.1))
    without = {index: stored if sum(BATCH[index]["rewards"]) == 0 else [] for index, stored in one.items()}

    def capped(logp, advantages):
        return -(logp - BEHAVIOR).exp().clamp(max=1.1).detach() * advantages * logp

    for ratio in ["token", "trace"]:
        for estimate in ["rate", "unbiased"]:
            def accepted(logp, advantages, traces):
                rows = []
                for row, advantage, (index, trace) in zip(logp, advantages, traces):
                    successes, attempts = BATCH[index]["successes"], BATCH[index]["attempts"]
                    p = successes / attempts if estimate == "rate" else (successes - 1) / (attempts - 1)
                    behavior = torch.tensor(trace["behavior"])
                    length = len(behavior)
                    logs = row[:length] - behavior
                    ratios = logs.exp() if ratio == "token" else logs.sum().exp().expand(length)
                    weights = (p * ratios).clamp(max=1.1).detach()
                    rows.append(torch.cat([-weights * advantage * row[:length], row[length:] * 0]))
                return torch.stack(rows)

            objective = f'kind = "importance-weighted"\nweight_cap = 1.1\nratio = "{ratio}"\nacceptance = "{estimate}"'
            joint(f"importance-weighted, {ratio}, {estimate}", "formula", objective, "token-mean", without,
                  lambda rewards, joined: (rewards - rewards.mean(), torch.ones(joined)), capped, accepted)


def of_kl():
    found = []
    for name in ["k1", "k2", "k3"]:
        current = torch.tensor([-0.1, -1.0, -2.0, -3.0, -1.5], requires_grad=True)
        reference = torch.tensor([-1.0, -1.0, -0.5, -1.1, -3.5])
        value = verl.kl_penalty(current, reference, name)
        value.sum().backward()
        found.append({
            "estimator": name, "current": current.tolist(), "reference": reference.tolist(),
            "value": value.tolist(), "derivative": current.grad.tolist(),
        })
    return found


def main():
    of_verl()
    of_mismatch()
    of_overlong()
    of_trl()
    of_formulas()
    of_stored()
    packages = {name: version(name).split("+")[0] for name in ["verl", "trl", "torch"]}
    data = {"made_with": packages, "limit": LIMIT, "groups": BATCH, "cases": CASES, "kl": of_kl()}
    with open(sys.argv[1], "w") as file:
        # One line per entry, so that a change shows where it is.
        parts = []
        for key, value in data.items():
            if isinstance(value, list):
                lines = ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in value)
                parts.append(f'"{key}": [\n{lines}\n]')
            else:
                parts.append(f'"{key}": {json.dumps(value)}')
        file.write("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
