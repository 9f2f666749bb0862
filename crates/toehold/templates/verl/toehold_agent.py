"""An agent loop that begins at exact token ids, and judges prefix and completion together.

The ids come from the row's `extra_info`; the row's messages are only for the log. The prefix is part of the
prompt: nothing of it is learnt from, and it does not count into the length of the response.
"""

import asyncio
import importlib.util
import uuid
from pathlib import Path

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, register
from verl.utils.profiler import simple_timer

# By its path: verl imports this file by its path, too, so its folder is not among those that are searched.
_spec = importlib.util.spec_from_file_location("toehold_reward", Path(__file__).with_name("toehold_reward.py"))
_toehold_reward = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_toehold_reward)


@register("toehold_prefix")
class ToeholdPrefixLoop(AgentLoopBase):
    """One completion after a prompt and a prefix that are given as ids."""

    def __init__(self, *args, hf_model_type=None, **kwargs):
        # verl's builders of chat messages make demands on a family's tokenizer; no message is built here.
        super().__init__(*args, hf_model_type=None, **kwargs)

    async def run(self, sampling_params, priority=0, **row):
        given = row["extra_info"]
        prefix_ids = [int(token) for token in given["prefix_ids"]]
        prompt_ids = [int(token) for token in given["prompt_ids"]] + prefix_ids
        metrics = {}
        with simple_timer("generate_sequences", metrics):
            output = await self.server_manager.generate(
                request_id=uuid.uuid4().hex,
                prompt_ids=prompt_ids,
                sampling_params=sampling_params,
                priority=int(priority),
            )
        preempted = output.num_preempted
        metrics["num_preempted"] = -1 if preempted is None else preempted
        length = self.rollout_config.response_length
        response_ids = list(output.token_ids)[:length]
        text = self.tokenizer.decode(prefix_ids + response_ids, skip_special_tokens=True)
        asked = {"verifier": given["verifier"], "answer": row["reward_model"]["ground_truth"], "text": text}
        [reward] = await asyncio.to_thread(_toehold_reward.rewards, [asked])
        extra = dict(output.extra_fields)
        extra.update({"turn_scores": [], "tool_rewards": []})
        # Columns of verl's dumps: `toehold import` finds the problem by the first.
        extra["reward_extra_info"] = {"problem_id": given["problem"], "start": given["start"], "acc": reward}
        return AgentLoopOutput(
            prompt_ids=prompt_ids,
            response_ids=response_ids,
            response_mask=[1] * len(response_ids),
            response_logprobs=output.log_probs[:length] if output.log_probs else None,
            reward_score=reward,
            num_turns=2,
            metrics=metrics,
            extra_fields=extra,
        )
