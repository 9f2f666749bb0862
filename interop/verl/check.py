"""Holds an exported job against verl's own code: configuration, data set, agent loop, reward function, dump.

    python check.py JOB ARGUMENTS DUMPS

Only the engine is a stand-in: the same model by transformers, on a CPU.
"""

import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
import verl
from hydra import compose, initialize_config_dir
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.protocol import DataProto
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.ray_trainer import RayPPOTrainer
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.workers.rollout.replica import TokenOutput

job, arguments, dumps = map(Path, sys.argv[1:])


class Engine:
    """What stands for vLLM: greedy or sampled tokens, and their log-probabilities."""

    def __init__(self, model):
        self.model = model
        self.asked = []

    async def generate(self, request_id, prompt_ids, sampling_params, priority=0):
        self.asked.append(list(prompt_ids))
        with torch.no_grad():
            out = self.model.generate(
                torch.tensor([prompt_ids]),
                max_new_tokens=24,
                do_sample=True,
                temperature=sampling_params["temperature"],
                output_scores=True,
                return_dict_in_generate=True,
            )
        tokens = out.sequences[0, len(prompt_ids) :].tolist()
        logprobs = [
            torch.log_softmax(scores[0], -1)[token].item() for scores, token in zip(out.scores, tokens, strict=True)
        ]
        return TokenOutput(token_ids=tokens, log_probs=logprobs)


def configuration():
    """ppo_trainer.yaml with the job's overrides: a key that verl does not have is an error here."""
    folder = Path(verl.__file__).parent / "trainer/config"
    with initialize_config_dir(str(folder), version_base=None):
        return compose("ppo_trainer", overrides=arguments.read_text().splitlines())


def main():
    config = configuration()
    print("configuration:", config.algorithm.adv_estimator, config.actor_rollout_ref.actor.loss_agg_mode)
    model_path = config.actor_rollout_ref.model.path
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_path)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    rows = RLHFDataset(config.data.train_files, tokenizer, config.data)
    held_out = RLHFDataset(config.data.val_files, tokenizer, config.data)
    kinds = [rows[at]["extra_info"]["kind"] for at in range(len(rows))]
    print(f"data set: {len(rows)} rows, {kinds.count('prefixed')} from a prefix; {len(held_out)} held out")
    assert kinds.count("prefixed") > 0

    torch.manual_seed(0)
    engine = Engine(transformers.AutoModelForCausalLM.from_pretrained(model_path).eval())
    worker = AgentLoopWorker(config=config, llm_client=engine)
    worker.tokenizer.pad_token = worker.tokenizer.pad_token or worker.tokenizer.eos_token
    chosen = [rows[at] for at in range(0, len(rows), 2)][:24]
    # As the trainer repeats each row for its group.
    collated = collate_fn([row for row in chosen for _ in range(4)])
    fields = {name: value for name, value in collated.items() if isinstance(value, np.ndarray)}
    batch = DataProto(batch=None, non_tensor_batch=fields, meta_info={"global_steps": 1})
    out = asyncio.run(worker.generate_sequences(batch))

    scores = out.batch["rm_scores"].sum(-1)
    right = 0
    for at, row in enumerate(chosen):
        given = row["extra_info"]
        for rollout in range(4 * at, 4 * at + 4):
            expected = list(given["prompt_ids"]) + list(given["prefix_ids"])
            assert engine.asked[rollout] == expected, "the engine was not asked with the exact ids"
            attended = out.batch["attention_mask"][rollout][: out.batch["prompts"].shape[1]].bool()
            assert out.batch["prompts"][rollout][attended].tolist() == expected
            length = int(out.batch["response_mask"][rollout].sum())
            response = out.batch["responses"][rollout][:length].tolist()
            # The reward function over the same text says the same as the loop.
            text = tokenizer.decode(list(given["prefix_ids"]) + response, skip_special_tokens=True)
            score = compute(row, text)
            assert score["score"] == scores[rollout].item(), (score, scores[rollout])
            right += score["score"] > 0
    print(f"agent loop: {len(scores)} rollouts begin at the exact ids, {int(right)} of them correct")

    extras = {name: out.non_tensor_batch[name].tolist() for name in ("problem_id", "start", "acc")}
    metrics = process_validation_metrics(
        np.array(["toehold"] * len(scores)), [str(uid) for uid in extras["start"]], {"reward": scores.tolist(), **extras}
    )
    print("validation metrics:", sorted(metrics["toehold"]))
    decoded = {
        name: tokenizer.batch_decode(out.batch[name], skip_special_tokens=True) for name in ("prompts", "responses")
    }
    golds = [row["reward_model"]["ground_truth"] for row in chosen for _ in range(4)]
    os.makedirs(dumps, exist_ok=True)
    RayPPOTrainer._write_generations(
        decoded["prompts"], decoded["responses"], golds, scores.tolist(), extras, str(dumps), 1
    )


def compute(row, text):
    """verl's own way to the job's reward function."""
    reward = get_custom_reward_fn(CONFIG)
    given = dict(row["extra_info"], prefix="")
    return reward(
        data_source=row["data_source"],
        solution_str=text,
        ground_truth=row["reward_model"]["ground_truth"],
        extra_info=given,
    )


if __name__ == "__main__":
    CONFIG = configuration()
    main()
