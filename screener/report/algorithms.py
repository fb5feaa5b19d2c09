"""One table of algorithms, from which every place that names one is written.

IHE AIR asks that an algorithm has the same name, version and manufacturer in Contributing
Equipment (PS3.3 C.12.1), in the device observer (TID 1004), in Algorithm Identification of the
tree (TID 4019) and in the segmentation (PS3.3 10.16). Here they cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from highdicom import AlgorithmIdentificationSequence
from highdicom.base_content import ContributingEquipment
from highdicom.sr import AlgorithmIdentification
from pydicom.valuerep import DT

from screener.domain import Decision
from screener.report import codes
from screener.report.uids import device_uid

if TYPE_CHECKING:
    from datetime import datetime

    from screener.domain import ModelIdentity, Screening
    from screener.report.options import ReportOptions

#: Tasks as manifests name them; the groups of the report look their algorithm up by these.
LUNG_SEGMENTATION = "lung-segmentation"
SLICE_CLASSIFICATION = "slice-classification"
PATIENT_VOTE = "patient-vote"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm as the result objects name it."""

    task: str
    name: str
    version: str
    manufacturer: str
    parameters: str
    device_uid: str


def list_algorithms(screening: Screening, options: ReportOptions) -> tuple[Algorithm, ...]:
    """List the models of a run and the product itself, which votes and writes."""
    models = (_model_algorithm(model, options) for model in screening.run.models)
    return (*models, _product(screening, options))


def product_of(algorithms: tuple[Algorithm, ...]) -> Algorithm:
    """Give the product: the device observer of the report and the equipment of its series."""
    return next(algorithm for algorithm in algorithms if algorithm.task == PATIENT_VOTE)


def find_algorithm(algorithms: tuple[Algorithm, ...], task: str) -> Algorithm | None:
    """Find the algorithm of a task, None where the run had none."""
    return next((algorithm for algorithm in algorithms if algorithm.task == task), None)


def contributing_equipment(algorithm: Algorithm, at: datetime) -> ContributingEquipment:
    """Describe an algorithm as Contributing Equipment (0018,A001) with its Device UID."""
    item = ContributingEquipment(
        manufacturer=algorithm.manufacturer,
        purpose_of_reference=codes.PROCESSING_EQUIPMENT,
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.version,
        contribution_datetime=DT(at),
        contribution_description=algorithm.parameters,
    )
    item.DeviceUID = algorithm.device_uid
    return item


def tree_identification(algorithm: Algorithm) -> AlgorithmIdentification:
    """Describe an algorithm inside the content tree (TID 4019)."""
    return AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        manufacturer=algorithm.manufacturer,
        parameters=[algorithm.parameters],
        family=None if algorithm.task == PATIENT_VOTE else codes.ARTIFICIAL_INTELLIGENCE,
    )


def segment_identification(algorithm: Algorithm) -> AlgorithmIdentificationSequence:
    """Describe an algorithm in a segment (Algorithm Identification Macro, PS3.3 10.16)."""
    sequence = AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=algorithm.version,
        source=algorithm.manufacturer,
    )
    sequence[0].AlgorithmParameters = algorithm.parameters
    return sequence


def _model_algorithm(model: ModelIdentity, options: ReportOptions) -> Algorithm:
    parameters = f"task={model.task}; sha256={model.digest}; provider={model.provider}"
    if model.fallback_reason is not None:
        parameters += f" (fallback: {model.fallback_reason})"
    return Algorithm(
        task=model.task,
        name=model.name,
        version=model.version,
        manufacturer=options.manufacturer,
        parameters=parameters,
        device_uid=device_uid(model.name, model.version, model.digest),
    )


def _product(screening: Screening, options: ReportOptions) -> Algorithm:
    run = screening.run
    parameters = f"pipeline={run.pipeline}; settings sha256={run.settings_digest}"
    if isinstance(screening.outcome, Decision):
        parameters = f"vote policy={screening.outcome.policy_name}; {parameters}"
    return Algorithm(
        task=PATIENT_VOTE,
        name=options.product_name,
        version=run.code_version,
        manufacturer=options.manufacturer,
        parameters=parameters,
        device_uid=device_uid(options.product_name, run.code_version, run.settings_digest),
    )
