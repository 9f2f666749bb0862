"""Adapters between PEFT and toehold: what PEFT makes loads here, what is trained here loads in PEFT.

    python interop/transformers/adapters.py              # writes crates/policy/tests/adapters
    python interop/transformers/adapters.py --check      # makes them again elsewhere and compares
    python interop/transformers/adapters.py --saved DIR  # loads what `--example adapter` trained and merged

Needs torch, transformers (5), peft and safetensors. Each folder is PEFT's own, without its README and with the
base's folder as it is called from here; `expected.safetensors` has `tokens` and the `logits`, `[tokens,
vocabulary]`, that PEFT computes in f32.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, logging

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "crates" / "policy" / "tests" / "data"
ADAPTERS = ROOT / "crates" / "policy" / "tests" / "adapters"
TOKENS = 12

# By folder: the base, and what PEFT is told. One has every matrix, biases and norms on heads, named one by one;
# the other has some, named by their ends, beside a model in several files.
CASES = {
    "lora": ("qwen3-linear", {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}),
    "rslora": ("llama-yarn", {
        "r": 3, "lora_alpha": 2.5, "use_rslora": True, "lora_dropout": 0.1,
        "target_modules": ["q_proj", "v_proj", "mlp.down_proj"],
    }),
}


def base_of(name):
    return AutoModelForCausalLM.from_pretrained(DATA / name, dtype=torch.float32).eval()


def logits_of(model, tokens):
    with torch.no_grad():
        return model(tokens[None].long()).logits[0].float().contiguous()


def make(target):
    for number, (name, (base, settings)) in enumerate(CASES.items()):
        torch.manual_seed(number)
        model = get_peft_model(base_of(base), LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
        for key, value in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(value, std=0.3)
        folder = target / name
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text())
        config["base_model_name_or_path"] = f"crates/policy/tests/data/{base}"
        # A set, which Python orders anew each time.
        config["target_modules"] = sorted(config["target_modules"])
        path.write_text(json.dumps(config, indent=2) + "\n")
        tokens = torch.randint(0, model.config.vocab_size, (TOKENS,), dtype=torch.int32)
        save_file({"tokens": tokens, "logits": logits_of(model, tokens)}, folder / "expected.safetensors")


def check():
    differ = 0
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder))
        files = sorted(path.relative_to(ADAPTERS) for path in ADAPTERS.rglob("*") if path.is_file())
        for file in files:
            old, new = ADAPTERS / file, pathlib.Path(folder) / file
            if file.suffix == ".safetensors":
                a, b = load_file(old), load_file(new)
                equal = a.keys() == b.keys() and all(torch.allclose(a[key].float(), b[key].float(), atol=1e-5) for key in a)
            else:
                equal = old.read_bytes() == new.read_bytes()
            differ += not equal
            if not equal:
                print(f"{file} differs")
    print(f"{len(files)} files, {differ} differ")
    return differ == 0


def saved(folder):
    worst = 0.0
    for case in sorted(path for path in folder.iterdir() if (path / "adapter").is_dir()):
        ours = json.loads((case / "ours.json").read_text())
        tokens, logits = torch.tensor(ours["tokens"]), torch.tensor(ours["logits"])
        base = base_of(case.name)
        logits = logits.reshape(len(tokens), -1)
        plain = (logits_of(base, tokens) - logits).abs().max().item()
        model = PeftModel.from_pretrained(base, case / "adapter").eval()
        adapted = (logits_of(model, tokens) - logits).abs().max().item()
        merged = AutoModelForCausalLM.from_pretrained(case / "merged", dtype=torch.float32).eval()
        stored = json.loads((case / "merged" / "config.json").read_text()).get("dtype") or "float32"
        merged = (logits_of(merged, tokens) - logits).abs().max().item()
        print(f"{case.name}: PEFT {adapted:.1e}, merged {merged:.1e} (stored in {stored}), without the adapter {plain:.1e}")
        worst = max(worst, adapted)
    print(f"largest difference of PEFT's logits: {worst:.1e}")
    return worst <= 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--saved", type=pathlib.Path)
    args = parser.parse_args()
    logging.set_verbosity_error()
    if args.check:
        sys.exit(not check())
    if args.saved:
        sys.exit(not saved(args.saved))
    make(ADAPTERS)


if __name__ == "__main__":
    main()
