"""Coded concepts of the classes that the data sets know; a report needs one for each."""

from collections.abc import Mapping

from models.manifest import CodedConcept, ModelClass

#: Scheme of codes that no standard has; the same as in reports (DICOM PS3.16 chapter 8: "99...").
_PRIVATE_SCHEME = "99CTSCREEN"
#: SNOMED CT codes by class or structure.
_CONCEPTS: Mapping[str, CodedConcept] = {
    "normal": CodedConcept("17621005", "SCT", "Normal"),
    "covid-19": CodedConcept("840539006", "SCT", "COVID-19"),
    "community-acquired-pneumonia": CodedConcept(
        "385093006", "SCT", "Community acquired pneumonia"
    ),
    "viral-pneumonia": CodedConcept("75570004", "SCT", "Viral pneumonia"),
    "lung": CodedConcept("39607008", "SCT", "Lung"),
}


def model_class(name: str) -> ModelClass:
    """Give a class with its concept; of our own scheme where no other has it."""
    own = CodedConcept(name, _PRIVATE_SCHEME, name.replace("-", " "))
    return ModelClass(name, _CONCEPTS.get(name, own))
