"""Settings: declared once as typed fields, which become flags; and presets of them."""

from misc.config.config import (
    BACKBONES,
    OVERWRITE_ALL,
    OVERWRITE_NOTHING,
    OVERWRITE_STALE,
    SHARED_SETTINGS,
    Config,
    ResultPath,
    config_class,
    config_from,
    paths_class,
)
from misc.config.presets import PRESETS, apply_preset
from misc.config.reference_flags import add_reference_flags, apply_reference_flags
from misc.config.settings import (
    INPUT,
    NO_EFFECT,
    RESULT,
    add_flags,
    distinct,
    distinct_numbers,
    parse_bool,
    parse_names,
    plain,
    positive_numbers,
    setting,
    typed,
)

__all__ = [
    "BACKBONES",
    "INPUT",
    "NO_EFFECT",
    "OVERWRITE_ALL",
    "OVERWRITE_NOTHING",
    "OVERWRITE_STALE",
    "PRESETS",
    "RESULT",
    "SHARED_SETTINGS",
    "Config",
    "ResultPath",
    "add_flags",
    "add_reference_flags",
    "apply_preset",
    "apply_reference_flags",
    "config_class",
    "config_from",
    "distinct",
    "distinct_numbers",
    "parse_bool",
    "parse_names",
    "paths_class",
    "plain",
    "positive_numbers",
    "setting",
    "typed",
]
