"""Writes model folders with chat templates, and what transformers makes of them.

    python interop/transformers/templates.py            # writes crates/rollout/tests/data/templates
    python interop/transformers/templates.py --check    # makes them again elsewhere and compares

Needs transformers (5), tokenizers and jinja2; no torch. The templates are written for these tests. Together
they use what those of the real families use: headers per turn and a date (llama3), a default system message
and tools (qwen2), thinking that can be turned off and is dropped from earlier turns (qwen3), `[INST]` with
strict alternation and no generation prompt of its own (mistral), and a template that opens `<think>` itself
(r1). Tokenizers are byte-level (mistral: byte fallback) with the families' kinds of special tokens.

A folder has tokenizer.json, tokenizer_config.json, generation_config.json, perhaps chat_template.jinja, and
golden.json: `cases` of messages and variables with the text and the ids that `apply_chat_template` gives.
expressions.json has single constructs, each with what transformers' own environment writes.
"""

import argparse
import datetime
import filecmp
import json
import pathlib
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, logging
from transformers.utils import chat_template_utils

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "crates" / "rollout" / "tests" / "data" / "templates"
DATE = "2025-01-31"
TEXT = ["What is 12 + 30? Let us think: the answer is 42.", "user assistant system\n\nReason step by step.", "é ü 数学 🙂"]

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "01 Jan 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nDay: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "Tools: " + (tools | tojson(indent=4)) + "\\n" }}
{%- endif %}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

QWEN2 = """{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0].role != 'system' %}
        {{- '<|im_start|>system\\nYou answer questions of mathematics.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "system" %}
        {{- raise_exception("a system message may only be the first") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

QWEN3 = """{%- macro turn(role, content) -%}
    {{- '<|im_start|>' ~ role ~ '\\n' ~ content ~ '<|im_end|>\\n' -}}
{%- endmacro %}
{%- set ns = namespace(last_query=messages|length - 1, searching=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not (message.content.startswith('<reply>') and message.content.endswith('</reply>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role != "assistant" %}
        {{- turn(message.role, content) }}
        {%- continue %}
    {%- endif %}
    {%- set thought = '' %}
    {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
        {%- set thought = message.reasoning_content %}
    {%- elif '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if loop.index0 > ns.last_query and (loop.last or thought) %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') + '<|im_end|>\\n' }}
        {%- endgeneration %}
    {%- else %}
        {{- turn('assistant', content) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('turns of user and assistant alternate, user/assistant/user/...') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- " [INST] " + system_message + "\\n\\n" + message["content"] + " [/INST]" }}
        {%- else %}
            {{- " [INST] " + message["content"] + " [/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"].strip() + eos_token }}
    {%- endif %}
{%- endfor %}
"""

TOOLS = """{{- bos_token + "tools: " + messages | map(attribute="role") | join(", ") }}
"""

R1 = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"""

# Special tokens, tokens that are added but not special, first and last token, templates, where they are kept.
FAMILIES = {
    "llama3": (["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], [],
               "<|begin_of_text|>", "<|eot_id|>", LLAMA3, "config"),
    "qwen2": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], [], None, "<|im_end|>", QWEN2, "config"),
    "qwen3": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<think>", "</think>"],
              None, "<|im_end|>", QWEN3, "file"),
    "mistral": (["<unk>", "<s>", "</s>"], [], "<s>", "</s>", {"default": MISTRAL, "tool_use": TOOLS}, "config"),
    "r1": (["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"], ["<think>", "</think>"],
           "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", R1, "config"),
}

USER = {"role": "user", "content": "What is 12 + 30?"}
SYSTEM = {"role": "system", "content": "  Reason step by step.\n"}
CHATS = [
    [USER],
    [SYSTEM, USER],
    [{"role": "user", "content": "é 数学 🙂 <|im_end|> <think> {{ x }}\n\n"}],
    [USER, {"role": "assistant", "content": "<think>\n12 + 30 is 42.\n</think>\n\nIt is 42."}],
    [USER, {"role": "assistant", "content": "\n42 "}, {"role": "user", "content": "And 7 * 6?\nAnswer alone."}],
    [USER, USER, SYSTEM],
]

EXPRESSIONS = [
    "{{ messages[0].content.upper() }}|{{ ' a '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'aXbXc'.split('X') }}",
    "{{ 'a b  c'.split() }}|{{ 'aXbXc'.split('X', 1) }}|{{ 'aXbXc'.rsplit('X', 1) }}|{{ 'a\\nb\\n'.splitlines() }}",
    "{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'c')) }}|{{ 'abc'.find('z') }}|{{ 'a-b'.replace('-', '+') }}",
    "{{ 'one two'.title() }}|{{ 'one'.capitalize() }}|{{ '12'.isdigit() }}|{{ 'ab'.isalpha() }}|{{ ', '.join(['a', 'b']) }}",
    "{{ 'prefix-x'.removeprefix('prefix-') }}|{{ 'x.txt'.removesuffix('.txt') }}|{{ 'a=b=c'.partition('=')[2] }}|{{ 'a=b=c'.rpartition('=')[0] }}",
    "{{ {'a': 1, 'b': [true, none, 'é']} | tojson }}|{{ ['<b>', \"'\", '\\\\', '\"'] | tojson }}",
    "{{ {'b': 1, 'a': {'c': []}} | tojson(indent=2) }}|{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}",
    "{{ ['é🙂'] | tojson(ensure_ascii=true) }}|{{ [1, 2] | tojson(separators=(',', ':')) }}|{{ 1.5 | tojson }}",
    "{{ true }} {{ none }} {{ 1 }} {{ 1.0 }} {{ [1, 'a', none] }} {{ {'a': 'b'} }} {{ \"it's\" }} {{ [\"it's\"] }}",
    "{% for k, v in {'x': 1, 'a': 2}.items() %}{{ k }}={{ v }};{% endfor %}{{ {'x': 1}.get('y', 'no') }}{{ {'x': 1}.get('y') }}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{{ ',' if not loop.last }}{% endfor %}",
    "{% set ns = namespace(a=1, seen=[]) %}{% for m in messages %}{% set ns.a = ns.a + loop.index %}{% set ns.seen = ns.seen + [m.role] %}{% endfor %}{{ ns.a }} {{ ns.seen }}",
    "{% macro f(x, y='d') %}<{{ x }}:{{ y }}>{% endmacro %}{{ f('a') }}{{ f('b', y='c') }}",
    "{{ messages | map(attribute='role') | list }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ (messages | first).role }}{{ (messages | last).role }}",
    "{{ messages | rejectattr('role', 'equalto', 'system') | map(attribute='role') | join('+') }}",
    "{{ messages[-1].role }}{{ messages[::-1][0].role }}{{ messages[1:] | length }}{{ 'abcdef'[1:4] }}{{ 'abc'[::-1] }}{{ 'é数'[1] }}",
    "{{ messages is iterable }}{{ messages is string }}{{ messages[0] is mapping }}{{ x is defined }}{{ none is none }}{{ 3 is odd }}{{ true is true }}{{ 'a' in 'abc' }}{{ 'role' in messages[0] }}",
    "{{ x | default('d') }}{{ '' | default('e', true) }}{{ '3' | int + 1 }}{{ 7 // 2 }}{{ 7 % 3 }}{{ 2 ** 3 }}{{ 7 / 2 }}{{ 'a' ~ 1 ~ 'b' }}{{ -3 | abs }}",
    "  {%- if true %}  a\n  {% if false %}x{% else %}b{% endif %}\n   c   \n  {#- gone -#}   d\n{% endif %}\n e \n",
    "{% if x is not defined %}\n  {% set y = 1 %}\n    y\n{% endif %}\nend\n\n",
    "{% filter upper %}abc{% endfilter %}{% set block %}in{{ 1 }}{% endset %}{{ block }}{% raw %}{{ raw }}{% endraw %}",
    "{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %B %Y, %a %A %j %y %%') }}",
    "{% generation %}a{% set inner = 1 %}{% endgeneration %}{{ inner is defined }}{%- generation -%} b {%- endgeneration -%} c",
    "{{ bos_token }}{{ 'a' if false }}{{ (1 if false) is defined }}{{ undefined_thing }}|{{ 'q' | trim | upper | replace('Q', 'r') | string }}",
    "{{ [3, 1, 2] | sort | join }}{{ [1, 1, 2] | unique | list }}{{ {'b': 1, 'a': 2} | dictsort | tojson }}{{ 'x\ny' | indent(2) }}",
    "{% for m in messages %}{% if loop.previtem is defined and loop.previtem.role == m.role %}same{% endif %}{{ loop.cycle('a', 'b') }}{{ loop.revindex }}{{ loop.length }}{% else %}none{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content[:4] }}{% endfor %}{{ {'a': {'b': 1}}['a']['b'] }}{{ [[1, 2], [3]] | sum(start=[]) }}",
    "{% set a, b = 1, 2 %}{{ a + b }}{% with c = 3 %}{{ c }}{% endwith %}{{ not a }}{{ a == 1 and b != 1 or false }}{{ a < b <= 2 }}{{ ('x', 'y') | join('-') }}",
    "{% set content = messages[1].content %}{{ content is string and '4' in content }}{{ content | trim | length }}{{ '%s and %d' | format('a', 3) }}",
    "{{ raise_exception('no: ' + messages[0].role) }}",
    "{{ messages[0].nothing.more }}",
]


def special(token, is_special=True):
    return AddedToken(token, special=is_special, normalized=False)


def byte_level(tokens, more):
    """A byte-level tokenizer with some merges; digits stand alone, as in the real ones."""
    tokenizer = Tokenizer(models.BPE())
    split = r"'[a-z]+|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(TEXT[:2], trainer)
    tokenizer.add_tokens([special(token) for token in tokens] + [special(token, False) for token in more])
    return tokenizer


def byte_fallback(tokens):
    """A tokenizer of characters, with bytes for those it does not have and `▁` for spaces."""
    words = tokens + [f"<0x{byte:02X}>" for byte in range(256)] + ["▁"] + sorted({c for c in TEXT[0] + TEXT[1] if c.isalnum()})
    tokenizer = Tokenizer(models.BPE({word: at for at, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([special(token) for token in tokens])
    return tokenizer


class Day(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


def write_family(name, folder):
    tokens, more, bos, eos, template, kept = FAMILIES[name]
    backend = byte_fallback(tokens) if name == "mistral" else byte_level(tokens, more)
    folder.mkdir(parents=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    if kept == "file":
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        config["chat_template"] = "{{ raise_exception('the file comes first') }}"
    elif isinstance(template, dict):
        config["chat_template"] = [{"name": key, "template": text} for key, text in template.items()]
    else:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    ends = [tokenizer.convert_tokens_to_ids(eos)]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}) + "\n")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    variables = [{}]
    if name == "qwen3":
        variables += [{"enable_thinking": True}, {"enable_thinking": False}]
    if name == "llama3":
        variables += [{"date_string": "1 May 2020"}]
    cases = []
    for chat in CHATS:
        for extra in variables:
            for opens in (True, False):
                case = {"messages": chat, "variables": extra, "add_generation_prompt": opens}
                try:
                    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=opens, **extra)
                    ids = tokenizer.apply_chat_template(chat, return_dict=False, add_generation_prompt=opens, **extra)
                    case |= {"text": text, "ids": ids}
                except chat_template_utils.jinja2.exceptions.TemplateError as error:
                    case |= {"raised": str(error)}
                cases.append(case)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (folder / "golden.json").write_text('{"cases": [\n' + lines + "\n]}\n", encoding="utf-8")


def write(out):
    chat_template_utils.datetime = Day
    for name in FAMILIES:
        write_family(name, out / name)
    made = []
    for template in EXPRESSIONS:
        case = {"template": template}
        try:
            compiled = chat_template_utils._compile_jinja_template(template)
            case["text"] = compiled.render(messages=CHATS[4], tools=None, documents=None, bos_token="<s>")
        except chat_template_utils.jinja2.exceptions.TemplateError as error:
            case["raised"] = str(error)
        made.append(json.dumps(case, ensure_ascii=False))
    text = json.dumps(CHATS[4], ensure_ascii=False)
    (out / "expressions.json").write_text(
        f'{{"messages": {text}, "date": "{DATE}", "cases": [\n' + ",\n".join(made) + "\n]}\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        made = pathlib.Path(temporary) / "templates"
        made.mkdir()
        write(made)
        files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
        if arguments.check:
            differ = [str(file) for file in files
                      if not (DATA / file).is_file() or not filecmp.cmp(made / file, DATA / file, shallow=False)]
            print(f"{len(files)} files, {len(differ)} differ", *differ, sep="\n")
            sys.exit(bool(differ))
        for file in files:
            (DATA / file).parent.mkdir(parents=True, exist_ok=True)
            (DATA / file).write_bytes((made / file).read_bytes())
        print(f"{len(files)} files in {DATA.relative_to(ROOT)}, {sum((DATA / f).stat().st_size for f in files)} bytes")


if __name__ == "__main__":
    main()
