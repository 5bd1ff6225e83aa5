"""The settings that the form offers: their labels, and how each is entered."""

from keras_lm.settings.config import DataConfig, ModelConfig, TrainingConfig

PARTS = {"data": DataConfig, "model": ModelConfig, "training": TrainingConfig}
HEAD_COUNTS = (1, 2, 3, 4, 6, 8, 12)
CONTEXT_LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

# The fields the page offers, in its order: label and, for a number, its step or its choices.
TEXT_FIELDS = {
    "tokenizer": ("Tokenizer", None),
    "cleaning": ("Cleaning", None),
    "separator": ("Separator of documents", None),
    "validation_fraction": ("Validation fraction", 0.05),
}
MODEL_FIELDS = {
    "attention": ("Attention", None),
    "num_blocks": ("Blocks", 1),
    "d_model": ("Width (d_model)", 16),
    "num_heads": ("Heads", HEAD_COUNTS),
    "ffn_dim": ("Feed-forward width (ffn_dim)", 32),
    "context_length": ("Context length", CONTEXT_LENGTHS),
    "norm": ("Normalization", None),
    "activation": ("Activation", None),
    "dropout": ("Dropout", 0.05),
}
MORE_MODEL_FIELDS = {
    "positions": ("Positions", None),
    "tie_embeddings": ("Tie embeddings", None),
    "use_bias": ("Biases", None),
    "qk_norm": ("QK-norm", None),
    "zero_init": ("Zero-initialized outputs", None),
    "logit_soft_cap": ("Logit soft cap", 5.0),
    "chunk_length": ("Chunk length (linear attention)", 16),
    "num_slots": ("Slots (linear attention)", 8),
}
TRAINING_FIELDS = {
    "batch_size": ("Batch size", 1),
    "gradient_accumulation": ("Gradient accumulation", 1),
    "optimizer": ("Optimizer", None),
    "learning_rate": ("Learning rate", 1e-4),
    "seed": ("Seed", 1),
}
MORE_TRAINING_FIELDS = {
    "schedule": ("Schedule", None),
    "warmup_steps": ("Warm-up steps", 10),
    "min_learning_rate": ("Final learning rate", 1e-5),
    "weight_decay": ("Weight decay", 0.01),
    "momentum": ("Momentum (Muon)", 0.05),
    "beta_1": ("Beta 1", 0.01),
    "beta_2": ("Beta 2", 0.01),
    "epsilon": ("Epsilon", 1e-8),
    "clip_norm": ("Gradient clipping (global norm)", 0.5),
    "precision": ("Precision", None),
    "deterministic": ("Deterministic", None),
}
WATCHING_FIELDS = {
    "sample_prompt": ("Prompt of the samples", None),
    "sample_every": ("Steps between samples", 50),
    "sample_tokens": ("Tokens per sample", 20),
    "eval_every": ("Steps between validations", 50),
    "log_every": ("Steps between points of the curve", 10),
    "checkpoint_every": ("Steps between checkpoints", 100),
}

# Of the form's "Advanced": title, and the fields with the part of the config they are in.
GROUPS = {
    "Text": ("data", TEXT_FIELDS),
    "Model": ("model", MODEL_FIELDS | MORE_MODEL_FIELDS),
    "Training": ("training", TRAINING_FIELDS | MORE_TRAINING_FIELDS),
    "Samples and validation": ("training", WATCHING_FIELDS),
}
STEPS = {"steps": ("Steps", 100)}
LABELS = {f"training.{name}": label for name, (label, _) in STEPS.items()} | {
    f"{part}.{name}": label
    for part, fields in GROUPS.values()
    for name, (label, _) in fields.items()
}
SIZES = {
    "Small": {"num_blocks": 2, "d_model": 64, "num_heads": 2, "ffn_dim": 128},
    "Medium": {"num_blocks": 2, "d_model": 128, "num_heads": 4, "ffn_dim": 256},
    "Large": {"num_blocks": 4, "d_model": 256, "num_heads": 8, "ffn_dim": 512},
}


def in_words(problem: str) -> str:
    """A config's complaint with the form's label where it names a field."""
    for key, label in LABELS.items():
        part, _, name = key.partition(".")
        problem = problem.replace(f"{PARTS[part].__name__}.{name} ", f"{label} ")
        problem = problem.replace(f"{key} ", f"{label} ")
    return problem
