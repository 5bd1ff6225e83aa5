"""Every hyperparameter: its default, its range, what it does, and how the page offers it.

The dataclasses are frozen and check themselves. The form, the help texts, the command line's flags
and `config.json` all come from the metadata of their fields.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from keras_lm.settings.checks import Checked, ConfigError
from keras_lm.settings.data_config import EARLIER_DATA, DataConfig
from keras_lm.settings.generation_config import GenerationConfig
from keras_lm.settings.model_config import ModelConfig
from keras_lm.settings.training_config import MOST_STEPS, TrainingConfig
from keras_lm.settings.variants import ATTENTIONS

__all__ = [
    "Checked",
    "ConfigError",
    "DataConfig",
    "GenerationConfig",
    "ModelConfig",
    "RunConfig",
    "TrainingConfig",
]

SCHEMA = 1


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines one run: what `config.json` in its folder holds.

    Example:
        >>> training = TrainingConfig(batch_size=2, gradient_accumulation=3)
        >>> RunConfig(ModelConfig(context_length=7), DataConfig(), training).tokens_per_step
        42
    """

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig

    def __post_init__(self) -> None:
        """Of a task, the context is one instance, and its tokens are characters."""
        if self.training.lora_rank and not self.data.init_from:
            raise ConfigError(
                f"must be 0 for fresh weights, but got {self.training.lora_rank}: name a model to "
                "go on with, init_from, or leave it out.",
                "lora_rank",
            )
        if task := self.data.task:
            context_length = max(task.size(length) for length in self.data.task_lengths) - 1
            model = self.model.changed(context_length=context_length)
            data = self.data.changed(tokenizer="char", cleaning="none", separator="")
            object.__setattr__(self, "model", model)  # a frozen dataclass allows no other way
            object.__setattr__(self, "data", data)

    @property
    def parts(self) -> dict[str, Checked]:
        """The three configs by their names."""
        return {"model": self.model, "data": self.data, "training": self.training}

    @property
    def tokens_per_step(self) -> int:
        """What one update trains on."""
        training = self.training
        return training.batch_size * training.gradient_accumulation * self.window_tokens

    @property
    def window_tokens(self) -> int:
        """What is trained on at once: the context, or of a task one instance, which may be less."""
        if task := self.data.task:
            return task.size(self.data.task_lengths[0]) - 1
        return self.model.context_length

    def trained_count(self, new_tokens: int = 0) -> int:
        """How many weights the run trains: all, or with LoRA its adapters and some tokens' rows.

        Args:
            new_tokens: how many tokens the model to go on with did not have.
        """
        model, rank = self.model, self.training.lora_rank
        if not rank:
            return model.parameter_count()
        return model.adapter_count(rank) + new_tokens * model.d_model * (2 - model.tie_embeddings)

    @property
    def most_steps(self) -> int:
        """The run's steps, as far as they are known: a budget of seconds may end it before.

        Example:
            >>> training = TrainingConfig(batch_size=2, max_tokens=1000)
            >>> RunConfig(ModelConfig(context_length=10), DataConfig(), training).most_steps
            50
        """
        training = self.training
        if training.max_tokens:
            return min(MOST_STEPS, max(1, training.max_tokens // self.tokens_per_step))
        return MOST_STEPS if training.max_seconds else training.steps

    def with_vocab_size(self, vocab_size: int) -> Self:
        """The same run with the vocabulary that its text turned out to have."""
        return dataclasses.replace(self, model=self.model.changed(vocab_size=vocab_size))

    def warnings(self) -> list[str]:
        """Sentences about settings that are allowed but cannot do what they are for."""
        model, training, found, steps = self.model, self.training, [], self.most_steps
        if training.warmup_steps >= steps:
            reached = round(100 * steps / training.warmup_steps)
            found.append(
                f"The warm-up of {training.warmup_steps:,} steps does not end before the run of "
                f"{steps:,}: the learning rate rises to the last step, to {reached}% of "
                f"its peak. Choose for example warmup_steps {steps // 10:,}."
            )
        if (rank := training.lora_rank) > model.d_model // 2:
            found.append(
                f"LoRA of rank {rank:,} has about as many weights as the matrices it adapts, whose "
                f"width is {model.d_model:,}. Choose for example lora_rank "
                f"{max(1, model.d_model // 16)}."
            )
        found += ATTENTIONS[model.attention].warnings(model)
        return found

    def with_data(self, data: str, title: str) -> Self:
        """The same run with a text from elsewhere; a title that was set is kept."""
        title = self.data.title or title
        return dataclasses.replace(self, data=self.data.changed(data=data, title=title))

    def to_dict(self) -> dict:
        """A JSON object with the schema's number."""
        return {"schema": SCHEMA} | {name: part.to_dict() for name, part in self.parts.items()}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Reads what `to_dict` wrote; ConfigError when it is something else."""
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise ConfigError(
                f'A run\'s config needs "schema": {SCHEMA}; choose a run of keras_lm.'
            )
        data = values.get("data")
        if isinstance(data, dict):  # what earlier versions did that had no such setting
            data = EARLIER_DATA | data
        return cls(
            ModelConfig.from_dict(values.get("model")),
            DataConfig.from_dict(data),
            TrainingConfig.from_dict(values.get("training")),
        )
