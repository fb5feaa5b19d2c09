"""Settings that make a result: models, inference, vote and report."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - read at run time to make the settings
from typing import Annotated, Literal

from pydantic import Field

from screener.domain import VotePolicy, VoteRule
from screener.setting_types import Section, Sha256

_VOTE = VotePolicy(name="default", rule=VoteRule.AFFECTED_FRACTION)


class ModelSettings(Section):
    """A model by name, pinned by content; an empty digest pins what its manifest says."""

    name: str
    sha256: Sha256 = ""


class ModelsSettings(Section):
    """Which models screen."""

    root: Path | None = None
    lungs: ModelSettings = ModelSettings(name="lung_segmentation")
    slices: ModelSettings = ModelSettings(name="slice_classifier")


class InferenceSettings(Section):
    """How ONNX Runtime is used."""

    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    threads: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    decode_threads: Annotated[int, Field(ge=1, le=64)] = 2


class VoteSettings(Section):
    """How slices become a decision; see `screener.vote` for the arithmetic."""

    name: str = _VOTE.name
    rule: VoteRule = _VOTE.rule
    slice_threshold: Annotated[float, Field(gt=0, lt=1)] = _VOTE.slice_threshold
    affected_fraction_threshold: Annotated[float, Field(gt=0, lt=1)] = (
        _VOTE.affected_fraction_threshold
    )
    longest_run_threshold_mm: Annotated[float, Field(gt=0)] = _VOTE.longest_run_threshold_mm
    indeterminate_margin: Annotated[float, Field(ge=0, lt=1)] = _VOTE.indeterminate_margin
    least_slices: Annotated[int, Field(ge=1)] = _VOTE.least_slices

    def policy(self) -> VotePolicy:
        """Give the policy as the vote takes it."""
        return VotePolicy(**self.model_dump())


class ReportSettings(Section):
    """What stands in every result object."""

    institution_name: Annotated[str, Field(max_length=64)] = ""
    content_qualification: Literal["RESEARCH", "PRODUCT"] = "RESEARCH"
    sr_class: Literal["comprehensive-3d", "comprehensive", "enhanced"] = "comprehensive-3d"
    charset: Literal["utf8", "source"] = "utf8"
    maximum_slice_groups: Annotated[int, Field(ge=0, le=1000)] = 64
    key_slices: Annotated[int, Field(ge=1, le=24)] = 6
