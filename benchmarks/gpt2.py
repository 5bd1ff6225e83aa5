"""The same model as the GPT-2 of the `transformers` package: logits and greedy text compared.

    pip install torch==2.13.0 transformers==5.23.0
    python -m benchmarks.gpt2 [--write]

A tiny GPT-2 with random weights gives its weights to a LanguageModel with learned positions,
LayerNorm, GELU, biases and tied embeddings. `--write` renews the fixture that the tests compare
with, `tests/fixtures/gpt2.npz`: the peer's weights under its own names, ids, logits, greedy ids.
"""

import argparse

import numpy as np

from benchmarks.peers import transformers_gpt2
from tests.gpt2 import FIXTURE, NEW_TOKENS, PROMPT_LENGTH, SHAPE, greedy_ids, language_model

BATCH = 5
STDDEV = 0.25  # large enough for logits that differ by whole units


def peer() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The peer's weights by name; and ids (batch, context), their logits, prompt and greedy ids."""
    import torch

    torch.manual_seed(1)
    changes = {"initializer_range": STDDEV, "eos_token_id": None, "pad_token_id": 0}
    model = transformers_gpt2(SHAPE, **changes).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") or "ln_" in name:  # or zeros and ones would hide a mistake
                weight.add_(torch.randn_like(weight) * STDDEV)
        size = (BATCH, SHAPE["context_length"])
        ids = torch.randint(SHAPE["vocab_size"], size)
        prompt = ids[:1, :PROMPT_LENGTH]
        greedy = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )
        data = {"ids": ids, "logits": model(ids).logits, "prompt": prompt, "greedy": greedy}
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    weights.pop("lm_head.weight")  # it is the embedding
    return weights, {name: value.numpy() for name, value in data.items()}


def main() -> None:
    """Prints the largest difference of the logits and whether the greedy text is the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="renew the tests' fixture")
    arguments = parser.parse_args()
    weights, data = peer()
    model = language_model(weights)
    logits = np.asarray(model(data["ids"]))
    same = np.array_equal(greedy_ids(model, data["prompt"], NEW_TOKENS), data["greedy"])
    print(f"logits from {logits.min():.2f} to {logits.max():.2f}")
    print(f"largest difference {np.abs(logits - data['logits']).max():.1e}")
    print(f"{NEW_TOKENS} greedy tokens the same: {same}")
    if arguments.write:
        FIXTURE.parent.mkdir(exist_ok=True)
        np.savez_compressed(FIXTURE, **weights, **data)


if __name__ == "__main__":
    main()
