"""GRPO under TRL from the starts that toehold exported.

    python train.py [--model MODEL] [--max-steps N] [--output DIR] [--cpu] [--vllm]

Every rollout begins at the exact token ids of its start. TRL hands a rollout function the prompts' text alone,
so the ids are found by the text, which no two rows share. The prefix is part of the prompt: nothing of it is
learnt from. What is judged is prefix and completion together.
"""

import argparse
import json
import os
from pathlib import Path

import datasets
import transformers
from trl import GRPOConfig, GRPOTrainer

from toehold_reward import rewards

HERE = Path(__file__).resolve().parent


def rows(name):
    """The rows of a file, or none."""
    path = HERE / f"{name}.parquet"
    return datasets.Dataset.from_parquet(str(path)) if path.exists() else None


def rollout_function(*tables):
    """Begins every rollout at the ids that the text stands for."""
    ids = {}
    for table in tables:
        for row in table or []:
            ids[row["prompt"]] = row["prompt_ids"] + row["prefix_ids"]

    def rollout(prompts, trainer):
        prompt_ids = [ids[prompt] for prompt in prompts]
        is_training = trainer.model.training
        group = trainer.num_generations if is_training else trainer.num_generations_eval
        # TRL's own generation, by whatever engine it is set to; only the encoding is left out.
        completion_ids, logprobs = trainer._generate_single_turn(prompt_ids, None, {}, group)
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}

    return rollout


def reward_function(tokenizer):
    """Judges prefix and completion together, decoded from their ids."""

    def toehold_reward(completion_ids, prefix_ids, verifier, answer, problem, start, log_extra=None, **_):
        texts = [
            tokenizer.decode(list(prefix) + list(completion), skip_special_tokens=True)
            for prefix, completion in zip(prefix_ids, completion_ids, strict=True)
        ]
        if log_extra is not None:
            # `toehold import` finds the problem by it.
            log_extra("problem_id", list(problem))
            log_extra("start", list(start))
        asked = zip(verifier, answer, texts, strict=True)
        return rewards([{"verifier": v, "answer": a, "text": t} for v, a, t in asked])

    return toehold_reward


def main():
    job = json.loads((HERE / "config.json").read_text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=job["model"], help="a folder, or a name on the hub")
    parser.add_argument("--output", default=str(HERE / "out"))
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--per-device", type=int, help="completions on a device at once [default: one group]")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--vllm", action="store_true", help="sample with vLLM beside the trainer")
    arguments = parser.parse_args()

    settings = dict(job["settings"])
    if arguments.max_steps:
        settings["max_steps"] = arguments.max_steps
    group, batch = settings["num_generations"], settings["generation_batch_size"]
    per_device = arguments.per_device or group
    at_once = per_device * int(os.environ.get("WORLD_SIZE", "1"))
    if batch % at_once:
        raise SystemExit(
            f"error: {batch} completions a step do not divide by {at_once} at once\n"
            "hint: choose --per-device so that they do"
        )
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    train, test = rows("train"), rows("test")
    trainer = GRPOTrainer(
        model=arguments.model,
        reward_funcs=reward_function(tokenizer),
        args=GRPOConfig(
            output_dir=arguments.output,
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=batch // at_once,
            use_cpu=arguments.cpu,
            bf16=not arguments.cpu,
            use_vllm=arguments.vllm,
            # Both need columns beside the prompt: the reward, and the log that `toehold import` reads.
            remove_unused_columns=False,
            log_completions=True,
            logging_steps=1,
            report_to="none",
            **settings,
        ),
        train_dataset=train,
        eval_dataset=test,
        processing_class=tokenizer,
        rollout_func=rollout_function(train, test),
    )
    trainer.train()
    trainer.save_model(arguments.output)
    with open(Path(arguments.output) / "log.json", "w") as out:
        json.dump(trainer.state.log_history, out, indent=1)


if __name__ == "__main__":
    main()
