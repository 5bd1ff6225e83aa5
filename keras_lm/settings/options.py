"""A config of which some settings choose among variants, which may have options of their own."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from keras_lm.settings.checks import Checked, ConfigError, check_value, field, fields_of, limits_of
from keras_lm.settings.kinds import Variant

HELP = field(None, "Own options of the chosen variants by name; each also is a setting.").metadata


@dataclass(frozen=True)
class WithOptions(Checked):
    """A config with the own options of the variants that its settings choose.

    An option is an attribute, too, and a key in `from_dict` and `to_dict`; in files it stands only
    where its variant is chosen, unless it is a field of the config's class.

    Attributes:
        registries: by the name of each setting that chooses a variant, those to choose among.
    """

    registries: ClassVar[dict[str, dict[str, Any]]] = {}
    options: dict = dataclasses.field(default_factory=dict, hash=False, kw_only=True, metadata=HELP)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "options", self._check_options())

    def _check_options(self) -> dict[str, Any]:
        """The options of the chosen variants, checked, with defaults for those not given."""
        known = {spec.name: spec for spec in self._further_options()}
        if unknown := sorted(set(self.options) - set(known)):
            name = type(self).__name__
            raise ConfigError(f"{name} has no option {unknown[0]!r:.60}; remove it.")
        given = {name: self._check_option(known[name], v) for name, v in self.options.items()}
        chosen = (spec for spec in self._chosen_specs() if spec.name in known)
        return {spec.name: given.get(spec.name, spec.default) for spec in chosen}

    def _check_option(self, spec: dataclasses.Field, value: Any) -> Any:
        name = f"{type(self).__name__}.{spec.name}"
        return check_value(name, value, spec.type, **limits_of(spec))

    def _chosen_specs(self) -> Iterator[dataclasses.Field]:
        """The own options of the chosen variants."""
        for name, registry in self.registries.items():
            yield from registry[getattr(self, name)].option_specs()

    @classmethod
    def _further_options(cls) -> list[dataclasses.Field]:
        """The variants' own options that are not fields of this class."""
        fields = {spec.name for spec in fields_of(cls)}
        variants: Iterator[Variant] = (v for r in cls.registries.values() for v in r.values())
        specs = (spec for variant in variants for spec in variant.option_specs())
        return [spec for spec in specs if spec.name not in fields]

    def own_options(self) -> dict[str, Any]:
        """The own options of the chosen variants, by name."""
        return {spec.name: getattr(self, spec.name) for spec in self._chosen_specs()}

    def __getattr__(self, name: str) -> Any:
        """An own option of a variant; its default where the variant is not chosen."""
        for spec in self._further_options():
            if spec.name == name:
                return self.__dict__["options"].get(name, spec.default)
        raise AttributeError(f"{type(self).__name__} has no setting {name}.")

    @classmethod
    def specs(cls) -> tuple[dataclasses.Field, ...]:
        """Its settings, and the own options of all variants."""
        own = (spec for spec in super().specs() if spec.name != "options")
        return (*own, *cls._further_options())

    def to_dict(self) -> dict[str, Any]:
        """A JSON object with a key per setting; of the variants' own, those that are chosen."""
        values = super().to_dict()
        return values | values.pop("options")

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Makes the config from a JSON object; an unknown or mistyped key is a ConfigError."""
        cls.check_keys(values)
        further = {spec.name for spec in cls._further_options()}
        options = {name: values[name] for name in values if name in further}
        return cls(**{k: v for k, v in values.items() if k not in further}, options=options)
