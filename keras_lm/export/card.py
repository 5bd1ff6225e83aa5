"""The card of an exported model: what it is, how it was made, how it is used."""

from keras_lm.export.exported import Exported
from keras_lm.settings.kinds import Format

LINKS = {"char": "characters", "bpe": "byte pairs", "gpt2": "GPT-2's word pieces"}
FRESH = "trained from nothing on this text alone"
SOLVES = "trained to answer a generated task"
READ = (
    "It knows nothing but what it has read: it writes in that manner, and what it says is not true."
)
FILES = {
    "config.json": "the model's settings",
    "tokenizer.json": "the vocabulary, for Hugging Face `tokenizers`",
    "generate.py": "continues a text; needs NumPy and what forward.py imports",
    "forward.py": "token ids (batch, length) to logits (batch, length, vocab_size)",
    "tokens.py": "text to token ids and back, in plain Python",
}


def write_card(model: Exported, format: Format, files: list[str], remark: str = "") -> str:
    """The content of README.md.

    Args:
        model: that was exported.
        format: what it became.
        files: the names of all files beside the card.
        remark: a sentence about what was written.
    """
    config = model.config
    parts = [f"# {model.title}, a small language model"]
    kind = "8 bits" if remark else "float32"
    is_taught = model.run.get("data", {}).get("init_from")
    begun = "that had learned another text before, trained on this one" if is_taught else FRESH
    begun = SOLVES if model.task else begun
    parts.append(
        f"Made with keras_lm: a decoder-only transformer with {config.parameter_count():,} weights "
        f"in {kind}, {begun}: {model.title}."
    )
    parts += [words for words in (model.course, remark) if words]
    parts.append(_use(model, files))
    most = f"{config.context_length:,} tokens, its context"
    length = f"It sees the last {most}."
    if "generate.py" in files:
        length = (
            f"It takes any batch and any length up to {most}; generate.py then goes on with the "
            "last ones that fit."
        )
    knows = "It answers questions of this task and of the trained length." if model.task else READ
    parts.append(f"## Limits\n\n{length} {knows}")
    if model.tokenizer.kind == "gpt2":
        parts.append(
            f"tokenizer.json has all of GPT-2's pieces. Those with ids from {config.vocab_size:,} "
            "on did not occur in the text: the model does not know them. tokens.py puts their "
            "longest known parts in place of them."
        )
    listed = [f"- `{name}`: {FILES[name]}" for name in files if name in FILES]
    listed += [f"- `{format.file}`: the model as {format.label}"] if format.file else []
    parts.append("## Files\n\n" + "\n".join(listed))
    parts.append("## How it was made\n\n" + _table(model))
    return "\n\n".join(parts) + "\n"


def _use(model: Exported, files: list[str]) -> str:
    if "generate.py" in files:
        return f'## Use\n\n```sh\npython generate.py "{model.prompt}" --tokens 100\n```'
    if "model.keras" in files:
        command = f'keras-lm generate --model model.keras --prompt "{model.prompt}"'
        return f"## Use\n\n```sh\n{command}\n```"
    return (
        "## Use\n\nAny web server can show this folder, such as `python -m http.server`, and then "
        "http://localhost:8000 in a browser. Nothing is sent anywhere: the model runs in the page."
    )


def _table(model: Exported) -> str:
    rows = [
        f"| {part}.{name} | {_plain(value)} |"
        for part, values in model.run.items()
        if isinstance(values, dict)
        for name, value in values.items()
    ]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def _plain(value: object) -> str:
    """A value that fits into one cell of a table."""
    return " ".join(f"{value}".split()).replace("|", "\\|")[:200]
