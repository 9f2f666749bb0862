"""TRL's `GRPOTrainer`: a round is one step (sample, score, update), timed between its own callbacks."""

import os
import random
import sys
import tempfile
import time

import common
from make import word

WARM = 2


def main(folder, tokens, group, completion, dtype):
    stream = common.protocol()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch = common.torch_with_threads()
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    starts = common.starts(tokens)
    prompts = [" ".join(word(token) for token in start["prompt"] + start["prefix"]) for start in starts]
    # bf16 is TRL's own way (autocast over f32 weights); bf16-weights also keeps the weights in 16 bits.
    weights = torch.bfloat16 if dtype == "bf16-weights" else torch.float32
    config = GRPOConfig(
        output_dir=os.path.join(tempfile.gettempdir(), "toehold-peers-trl"),
        per_device_train_batch_size=len(starts) * group,
        num_generations=group,
        max_completion_length=completion,
        # An end token would be drawn now and then, and the rest of that completion be masked.
        generation_kwargs={"min_new_tokens": completion},
        temperature=1.0,
        top_k=0,
        beta=0.0,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        max_steps=1_000_000,
        use_cpu=True,
        bf16=dtype != "f32",
        use_vllm=False,
        gradient_checkpointing=os.environ.get("PEER_CHECKPOINTING", "0") == "1",
        shuffle_dataset=False,
        model_init_kwargs={"dtype": weights},
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    rng = random.Random(0)

    def rewards(completions, **_):
        """Half of each group succeeds, so that none is silent and every round is as much work."""
        made = [1.0, 0.0] * (len(completions) // 2) + [1.0] * (len(completions) % 2)
        rng.shuffle(made)
        return made

    class Rounds(TrainerCallback):
        steps, begin = 0, 0.0

        def on_step_begin(self, args, state, control, **_):
            if self.steps == WARM:
                common.say(stream, event="ready", mode=dtype)
            if self.steps >= WARM and not sys.stdin.readline():
                # The step that has begun cannot be called off, and nobody waits for it.
                os._exit(0)
            self.begin = time.perf_counter()

        def on_step_end(self, args, state, control, **_):
            seconds = time.perf_counter() - self.begin
            if self.steps >= WARM:
                count = len(starts) * group * completion
                common.say(stream, event="round", seconds=seconds, tokens=count, peak_bytes=common.peak_bytes())
            self.steps += 1

    trainer = GRPOTrainer(
        model=folder,
        reward_funcs=rewards,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        callbacks=[Rounds()],
    )
    trainer.train()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
