"""Turn a trained network into a model folder: graph, manifest, parity with torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.manifest import (
    Calibration,
    CodedConcept,
    Manifest,
    Metric,
    ModelClass,
    OperatingPoint,
    Task,
    TrainingSource,
)
from models.registry import open_model_folder
from models.session import LungSegmenter, Provider, SliceClassifier
from models.training.export import export_graph, largest_difference
from models.training.manifest_writer import write_manifest
from models.training.networks import AttentionUNet, LungGraph, SliceGraph, SliceNetwork
from models.training.train_lungs import LungRecipe
from models.training.train_slices import SliceRecipe

#: Stands in a manifest until the digest of the graph is known.
_NO_DIGEST = "0" * 64
_LICENCE = "Apache-2.0"
_INTENDED_USE = "Research and development; not a medical device, not for diagnosis."

LCTSC = TrainingSource(
    name="LCTSC (AAPM Lung CT Segmentation Challenge 2017), cases 000-004, 006, 007",
    licence="CC BY 3.0",
    citation="Yang et al. 2017, The Cancer Imaging Archive, 10.7937/K9/TCIA.2017.3R3FVZ08",
    n_subjects=7,
)
LUNG = ModelClass("lung", CodedConcept("39607008", "SCT", "Lung structure"))
#: Order of the class logits.
SLICE_CLASSES = (
    ModelClass("normal", CodedConcept("17621005", "SCT", "Normal")),
    ModelClass("covid-19", CodedConcept("840539006", "SCT", "COVID-19")),
    ModelClass(
        "community-acquired-pneumonia",
        CodedConcept("385093006", "SCT", "Community acquired pneumonia"),
    ),
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured and chosen after training, as the manifest states it."""

    version: str
    operating_point: OperatingPoint
    calibration: Calibration
    training_data: tuple[TrainingSource, ...]
    metrics: tuple[Metric, ...]


def package_lungs(
    network: AttentionUNet, recipe: LungRecipe, findings: Findings, folder: Path
) -> float:
    """Export the lung network, write its manifest, give the largest difference of logits."""
    graph = LungGraph(network, recipe.grid).eval()
    hu = torch.randint(-1100, 500, (2, 320, 288), dtype=torch.int16)
    axes = {"hu": {0: "batch", 1: "rows", 2: "columns"}}
    export_graph(graph, {"hu": hu}, ("lung_logits",), axes, folder)
    manifest = Manifest(
        name="lung-segmentation",
        version=findings.version,
        task=Task.LUNG_SEGMENTATION,
        summary="Attention U-Net: one lung logit per pixel of an axial CT slice.",
        licence=_LICENCE,
        intended_use=_INTENDED_USE,
        recipe="attention-unet-lung",
        inputs=("hu",),
        outputs=("lung_logits",),
        classes=(LUNG,),
        hu_window=recipe.grid.window,
        input_rows=recipe.grid.size,
        input_columns=recipe.grid.size,
        operating_point=findings.operating_point,
        calibration=findings.calibration,
        training_data=findings.training_data,
        metrics=findings.metrics,
        sha256=_NO_DIGEST,
    )
    write_manifest(folder, manifest)
    session = LungSegmenter(open_model_folder(folder), provider=Provider.CPU, threads=1)
    with torch.inference_mode():
        return largest_difference(graph(hu), session.logits(hu.numpy()))


def package_slices(
    network: SliceNetwork, recipe: SliceRecipe, findings: Findings, folder: Path
) -> float:
    """Export the slice network, write its manifest, give the largest difference of logits."""
    graph = SliceGraph(network, recipe.grid).eval()
    hu = torch.randint(-1100, 500, (2, 320, 288), dtype=torch.int16)
    boxes = torch.tensor([[10.0, 20.0, 300.0, 250.0], [0.0, 0.0, 320.0, 288.0]])
    axes = {"hu": {0: "batch", 1: "rows", 2: "columns"}, "boxes": {0: "batch"}}
    outputs = ("class_logits", "lesion_logits")
    export_graph(graph, {"hu": hu, "boxes": boxes}, outputs, axes, folder)
    manifest = Manifest(
        name="slice-classifier",
        version=findings.version,
        task=Task.SLICE_CLASSIFICATION,
        summary="Joint lesion map and slice class (normal, COVID-19, community-acquired pneumonia).",
        licence=_LICENCE,
        intended_use=_INTENDED_USE,
        recipe="joint-lesion-slices",
        inputs=("hu", "boxes"),
        outputs=outputs,
        classes=SLICE_CLASSES,
        hu_window=recipe.grid.window,
        input_rows=recipe.grid.size,
        input_columns=recipe.grid.size,
        operating_point=findings.operating_point,
        calibration=findings.calibration,
        training_data=findings.training_data,
        metrics=findings.metrics,
        sha256=_NO_DIGEST,
    )
    write_manifest(folder, manifest)
    session = SliceClassifier(open_model_folder(folder), provider=Provider.CPU, threads=1)
    with torch.inference_mode():
        expected = graph(hu, boxes)
    found = (
        session.logits(hu.numpy(), np.asarray(boxes.numpy(), dtype=np.float32)),
        session.lesion_logits(hu.numpy(), np.asarray(boxes.numpy(), dtype=np.float32)),
    )
    return max(largest_difference(one, two) for one, two in zip(expected, found, strict=True))
