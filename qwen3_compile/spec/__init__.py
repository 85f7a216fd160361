"""The declarative spec of an engine: a YAML file read safely, checked whole, with every default filled in."""

from qwen3_compile.spec.load import load_spec, parse_spec, spec_from_mapping
from qwen3_compile.spec.schema import (
    AccuracyLimits,
    ArchitectureSection,
    ChatSection,
    LimitsSection,
    ModelSection,
    PrecisionSection,
    RopeScalingSection,
    SamplingByModeSection,
    SamplingSection,
    Spec,
    TargetSection,
)
from qwen3_compile.spec.shipped import find_spec, shipped_specs
from qwen3_compile.spec.source import FolderSource, HubSource, Source, SyntheticSource, parse_source

__all__ = [
    "AccuracyLimits",
    "ArchitectureSection",
    "ChatSection",
    "FolderSource",
    "HubSource",
    "LimitsSection",
    "ModelSection",
    "PrecisionSection",
    "RopeScalingSection",
    "SamplingByModeSection",
    "SamplingSection",
    "Source",
    "Spec",
    "SyntheticSource",
    "TargetSection",
    "find_spec",
    "load_spec",
    "parse_source",
    "parse_spec",
    "shipped_specs",
    "spec_from_mapping",
]
