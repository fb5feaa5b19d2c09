"""Write ``manifest.toml`` for an exported graph; what is written is read back and compared."""

from dataclasses import asdict, replace
from pathlib import Path

from models.errors import ManifestInvalid
from models.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    Manifest,
    Metric,
    ModelClass,
    TrainingSource,
    read_manifest,
)
from models.registry import digest_file
from models.training.toml_text import array_table, lines, table


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest into a folder with the digest of the graph that lies there.

    Returns
    -------
    :
        The manifest as written, with the digest of ``model.onnx``.

    Raises
    ------
    ManifestInvalid
        What was written does not read back as the same manifest.
    """
    pinned = replace(manifest, sha256=digest_file(folder / GRAPH_FILE))
    (folder / MANIFEST_FILE).write_text(manifest_text(pinned), encoding="utf-8")
    if read_manifest(folder) != pinned:
        raise ManifestInvalid(f"{folder / MANIFEST_FILE} reads back otherwise; mend the writer")
    return pinned


def manifest_text(manifest: Manifest) -> str:
    """Give the manifest as TOML, in the order in which people read it."""
    parts = [_head(manifest), _graph(manifest)]
    parts += [_class(one) for one in manifest.classes]
    parts += [
        table(
            "operating_point",
            threshold=manifest.operating_point.threshold,
            chosen_by=manifest.operating_point.chosen_by,
        ),
        table(
            "calibration",
            temperature=manifest.calibration.temperature,
            fitted_by=manifest.calibration.fitted_by,
        ),
    ]
    parts += [_source(one) for one in manifest.training_data]
    parts += [_metric(one) for one in manifest.metrics]
    parts += [array_table("variants", **asdict(one)) for one in manifest.variants]
    return "\n\n".join(parts) + "\n"


def _head(manifest: Manifest) -> str:
    return lines(
        name=manifest.name,
        version=manifest.version,
        task=manifest.task.value,
        summary=manifest.summary,
        licence=manifest.licence,
        intended_use=manifest.intended_use,
        recipe=manifest.recipe,
    )


def _graph(manifest: Manifest) -> str:
    graph = table(
        "graph",
        sha256=manifest.sha256,
        inputs=list(manifest.inputs),
        outputs=list(manifest.outputs),
        input_rows=manifest.input_rows,
        input_columns=manifest.input_columns,
    )
    if manifest.hu_window is None:
        return graph
    window = lines(lower_hu=manifest.hu_window.lower_hu, upper_hu=manifest.hu_window.upper_hu)
    return f"{graph}\n\n[graph.hu_window]\n{window}"


def _class(one: ModelClass) -> str:
    return array_table(
        "classes",
        name=one.name,
        code_value=one.concept.code_value,
        coding_scheme=one.concept.coding_scheme,
        code_meaning=one.concept.code_meaning,
    )


def _source(source: TrainingSource) -> str:
    return array_table(
        "training_data",
        name=source.name,
        licence=source.licence,
        citation=source.citation,
        n_subjects=source.n_subjects,
    )


def _metric(metric: Metric) -> str:
    return array_table(
        "metrics",
        name=metric.name,
        value=metric.value,
        lower=metric.lower,
        upper=metric.upper,
        measured_on=metric.measured_on,
        n_subjects=metric.n_subjects,
    )
