"""Writes small random checkpoints with transformers, and what transformers computes for them.

    python interop/transformers/fixtures.py            # writes crates/policy/tests/data
    python interop/transformers/fixtures.py --check    # makes them again elsewhere and compares
    python interop/transformers/fixtures.py --large DIR  # larger ones, 512 positions, for `--example compare`
    python interop/transformers/fixtures.py --saved DIR  # loads what `--example compare` saved of the small ones

Needs torch, transformers (5), tokenizers and safetensors. A folder per family and rotary scaling; tied and
untied heads, one file or several, and f32, bf16 and f16 alternate so that every family has each of them, as
has every scaling. What only some folders have (biases, heads of another size than width / heads, the keys of
older configs, extra keys of YaRN) is in `extras`. Weights, norms and biases are random and large enough that
every one matters. Each folder gets

* config.json, generation_config.json, the weights, tokenizer.json, tokenizer_config.json;
* expected.json: `tokens`, a `prompt` with the tokens that follow it greedily, and for one folder of each
  family the coefficients of a loss;
* expected.safetensors: `logits`, `[tokens, vocabulary]`, and `grad.NAME` where there are coefficients, the
  gradient of the sum of coefficient times log-probability of the second half of `tokens`.

All of it is computed in f32 from the folder as it was read back; `--large` adds the logits in f64 and bf16.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config, logging,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "crates" / "policy" / "tests" / "data"

# What a folder's name begins with, its class, and the shape that its relatives have: heads, heads of keys,
# size of a head (small and large), base of the frequencies.
FAMILIES = {
    "llama": (LlamaConfig, (4, 2), (8, 64), 500_000.0),
    "smollm2": (LlamaConfig, (3, 1), (16, 64), 100_000.0),
    "mistral": (MistralConfig, (4, 2), (12, 80), 1_000_000.0),
    "qwen2": (Qwen2Config, (2, 1), (16, 64), 1_000_000.0),
    "qwen3": (Qwen3Config, (2, 1), (20, 128), 1_000_000.0),
}
SCALINGS = ["default", "linear", "llama3", "yarn"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# One folder of each family has gradients, too: that with the most kinds of parameters.
GRADIENTS = {"llama-linear", "smollm2-default", "mistral-yarn", "qwen2-llama3", "qwen3-linear"}
# Size of the small ones' numbers: attention is sharp, so that an error shows.
SHARP = 1.5
VOCABULARY = ["<|endoftext|>", "<unk>"] + list("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM +-*/=().,:?")
assert len(VOCABULARY) == len(set(VOCABULARY))


def scaling(kind, positions):
    """The rotary parameters; training before was for an eighth (YaRN: a quarter) of the positions."""
    return {
        "default": {"rope_type": "default"},
        "linear": {"rope_type": "linear", "factor": 4.0},
        "llama3": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": positions // 8,
        },
        "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": positions // 4},
    }[kind]


def extras(name):
    """Settings and rotary parameters that only one folder has."""
    return {
        "llama-linear": ({"attention_bias": True, "mlp_bias": True}, {}),
        "qwen3-linear": ({"attention_bias": True}, {}),
        "smollm2-yarn": ({}, {"mscale": 0.7, "mscale_all_dim": 1.3}),
        "mistral-yarn": ({}, {"beta_fast": 8.0, "beta_slow": 2.0, "truncate": False}),
        "llama-yarn": ({}, {"attention_factor": 1.25}),
        "qwen2-default": ({"max_window_layers": 1}, {}),
    }.get(name, ({}, {}))


def cases(large):
    """Name, config, number format, and how many files."""
    vocabulary = 1024 if large else len(VOCABULARY)
    positions = 1024 if large else 128
    for f, (family, (kind, (heads, groups), sizes, theta)) in enumerate(FAMILIES.items()):
        for s, rope in enumerate(SCALINGS):
            name = f"{family}-{rope}"
            settings, rotary = extras(name)
            size = sizes[large]
            # Mistral and Qwen3 have heads whose size is not width / heads.
            width = (256 if large else 32) if family in ("mistral", "qwen3") else heads * size
            if kind is not Qwen2Config:
                settings = {"head_dim": size, **settings}
            if kind is MistralConfig:
                settings = {"sliding_window": None, **settings}
            config = kind(
                vocab_size=vocabulary, hidden_size=width, intermediate_size=width + 4,
                num_hidden_layers=4 if large else 2, num_attention_heads=heads, num_key_value_heads=groups,
                max_position_embeddings=positions, tie_word_embeddings=(f + s) % 2 == 0,
                rms_norm_eps=1e-5 if family in ("llama", "mistral") else 1e-6, attention_dropout=0.0,
                eos_token_id=[0, 1] if s == 2 else 0, bos_token_id=None, pad_token_id=0,
                rope_parameters={**scaling(rope, positions), "rope_theta": theta, **rotary}, **settings,
            )
            yield name, config, DTYPES[(f + s) % 3], 3 if (f + s // 2) % 2 else 1


def words():
    result = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    result.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    result.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=result, eos_token=VOCABULARY[0], unk_token=VOCABULARY[1])


def make(config, seed, dtype, scale):
    torch.manual_seed(seed)
    net = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.5)
            else:
                parameter.normal_(0.0, scale * parameter.shape[-1] ** -0.5)
    return net.to(dtype)


def older(folder):
    """Rewrites config.json as transformers 4 wrote it, as most folders on the hub are."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type" if kind == "yarn" else "rope_type": kind, **rope}
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def strip_version(folder):
    """The version of transformers would make equal folders differ."""
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        config = json.loads(path.read_text())
        config.pop("transformers_version", None)
        path.write_text(json.dumps(config, indent=2) + "\n")


def greedy(net, tokens, count):
    """Token by token, with the smallest lead that a token had over the next."""
    tokens, lead = list(tokens), float("inf")
    out = net(torch.tensor([tokens]), use_cache=True)
    for _ in range(count):
        best = out.logits[0, -1].topk(2)
        lead = min(lead, float(best.values[0] - best.values[1]))
        tokens.append(int(best.indices[0]))
        out = net(torch.tensor([tokens[-1:]]), past_key_values=out.past_key_values, use_cache=True)
    return tokens, lead


def fixture(folder, name, config, dtype, files, seed, large, scale):
    net = make(config, seed, dtype, scale)
    size = sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
    net.save_pretrained(folder, max_shard_size=size // files + 1 if files > 1 else "5GB")
    words().save_pretrained(folder)
    if seed % 3 == 0:
        older(folder)
    strip_version(folder)
    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, config.vocab_size, (512 if large else 40,), generator=generator).tolist()
    expected = {"tokens": tokens}
    with torch.no_grad():
        tensors = {"logits": net(torch.tensor([tokens])).logits[0].contiguous()}
        prompt = tokens[:8]
        whole, expected["lead"] = greedy(net, prompt, 128 if large else 24)
        expected |= {"prompt": prompt, "greedy": whole[len(prompt):]}
        if large:
            # In f64, but for the angles and what is rounded on the way out: how far rounding alone goes.
            exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
            tensors["logits.f64"] = exact.eval()(torch.tensor([tokens])).logits[0].float().contiguous()
            half = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager")
            tensors["logits.bf16"] = half.eval()(torch.tensor([tokens])).logits[0].float().contiguous()
    if name in GRADIENTS and not large:
        start = len(tokens) // 2
        expected["coefficients"] = [round(c, 3) for c in torch.randn(start, generator=generator).tolist()]
        logs = torch.log_softmax(net(torch.tensor([tokens])).logits[0], -1)
        picked = logs[start - 1:-1].gather(1, torch.tensor(tokens[start:])[:, None])[:, 0]
        (picked * torch.tensor(expected["coefficients"])).sum().backward()
        tensors |= {f"grad.{key}": value.grad.contiguous() for key, value in net.named_parameters()}
    save_file(tensors, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    return expected["lead"]


def write(root, large, scale):
    for number, (name, config, dtype, files) in enumerate(cases(large)):
        folder = root / name
        # Where two tokens are nearly equal, rounding decides between them: another seed is taken.
        for seed in range(number, number + 300, 30):
            if folder.exists():
                for path in folder.iterdir():
                    path.unlink()
            folder.mkdir(parents=True, exist_ok=True)
            lead = fixture(folder, name, config, dtype, files, seed, large, scale)
            if lead > 1e-2 or large:
                break
        files = len(list(folder.glob("model*.safetensors")))
        print(f"{name}: {str(dtype)[6:]}, {files} file(s), smallest lead {lead:.1e}", flush=True)


def saved(root):
    """Loads what toehold has saved of the fixtures, and says how far its logits are from theirs."""
    worst = 0.0
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        tokens = json.loads((DATA / folder.name / "expected.json").read_text())["tokens"]
        with torch.no_grad():
            logits = net(torch.tensor([tokens])).logits[0]
        off = float((logits - load_file(DATA / folder.name / "expected.safetensors")["logits"]).abs().max())
        print(f"{folder.name}: loaded, largest difference of a logit {off:.1e}")
        worst = max(worst, off)
    return worst


def compare(old, new):
    """Says what differs between two folders of fixtures; gives how much."""
    differences = 0
    names = sorted({path.relative_to(root) for root in (old, new) for path in root.rglob("*") if path.is_file()})
    for name in names:
        if not ((old / name).exists() and (new / name).exists()):
            found = "only in one of them"
        elif name.suffix == ".safetensors":
            a, b = load_file(old / name), load_file(new / name)
            if a.keys() != b.keys():
                found = "other tensors"
            else:
                # Weights are the same bits; what was computed may differ by rounding between machines.
                bound = 2e-5 if name.name.startswith("expected") else 0.0
                off = max(float((a[key].float() - b[key].float()).abs().max()) for key in a)
                found = f"off by {off:.1e}" if off > bound else None
        elif name.name == "expected.json":
            a, b = (json.loads((root / name).read_text()) for root in (old, new))
            a.pop("lead"), b.pop("lead")
            found = None if a == b else "other numbers"
        else:
            found = None if (old / name).read_bytes() == (new / name).read_bytes() else "other bytes"
        if found:
            print(f"{name}: {found}")
            differences += 1
    print(f"{len(names)} files, {differences} differ")
    return differences


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="make them again elsewhere and compare")
    parser.add_argument("--large", metavar="DIR", type=pathlib.Path, help="larger models into DIR")
    parser.add_argument("--saved", metavar="DIR", type=pathlib.Path, help="load what toehold saved into DIR")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the large ones' numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    if options.check:
        with tempfile.TemporaryDirectory() as folder:
            write(pathlib.Path(folder), False, SHARP)
            sys.exit(1 if compare(DATA, pathlib.Path(folder)) else 0)
    if options.saved:
        sys.exit(1 if saved(options.saved) > 1e-6 else 0)
    write(options.large or DATA, options.large is not None, options.scale if options.large else SHARP)
