"""Models are found by name, and a changed byte is found out."""

import shutil
from pathlib import Path

import pytest

from models.errors import ManifestInvalid, ModelDigestMismatch, ModelNotFound
from models.manifest import GRAPH_FILE, MANIFEST_FILE
from models.registry import (
    SHIPPED_MODELS,
    find_model,
    list_models,
    open_model_folder,
    verify_model,
)

SHIPPED = ("lung_segmentation", "slice_classifier")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in SHIPPED:
        shutil.copytree(SHIPPED_MODELS / name, tmp_path / name)
    return tmp_path


def test_registry_lists_the_shipped_models() -> None:
    """Two models ship, each small enough to live in the repository and with a card."""
    folders = list_models()
    assert [folder.path.name for folder in folders] == list(SHIPPED)
    for folder in folders:
        assert folder.graph.stat().st_size < 20_000_000
        assert (folder.path / "card.md").read_text(encoding="utf-8").startswith("# ")
        names = {one.name for one in folder.path.iterdir()}
        assert names - {"failures.png"} == {"card.md", MANIFEST_FILE, GRAPH_FILE}


@pytest.mark.parametrize("name", ["lung-segmentation", "lung_segmentation"])
def test_registry_finds_by_manifest_or_folder_name(name: str) -> None:
    """Both names that a person may know lead to the folder."""
    assert find_model(name).path == SHIPPED_MODELS / "lung_segmentation"


def test_registry_unknown_name_lists_the_known() -> None:
    """The message helps to correct the setting."""
    with pytest.raises(ModelNotFound, match="there are: lung-segmentation, slice-classifier"):
        find_model("liver")


def test_registry_verifies_shipped_digests() -> None:
    """What ships is what its manifest pins, and the settings may pin the same."""
    for folder in list_models():
        digest = verify_model(folder)
        assert digest == folder.manifest.sha256
        assert verify_model(folder, pinned_sha256=digest.upper()) == digest


def test_registry_one_changed_byte_is_a_mismatch(root: Path) -> None:
    """A single flipped bit of the graph is refused."""
    folder = find_model("lung-segmentation", root)
    content = bytearray(folder.graph.read_bytes())
    content[len(content) // 2] ^= 1
    folder.graph.write_bytes(bytes(content))
    with pytest.raises(ModelDigestMismatch, match="its manifest says"):
        verify_model(folder)


def test_registry_other_pin_in_settings_is_a_mismatch() -> None:
    """A good model that is not the pinned one is refused too."""
    with pytest.raises(ModelDigestMismatch, match="the settings pin"):
        verify_model(find_model("lung-segmentation"), pinned_sha256="0" * 64)


def test_registry_folder_without_graph_is_not_found(root: Path) -> None:
    """A manifest without graph is named, not passed over."""
    (root / "slice_classifier" / GRAPH_FILE).unlink()
    with pytest.raises(ModelNotFound, match=r"model\.onnx is missing"):
        list_models(root)


def test_registry_broken_manifest_is_not_passed_over(root: Path) -> None:
    """One broken model stops the listing, since somebody may rely on it."""
    (root / "slice_classifier" / MANIFEST_FILE).write_text("name = 1", encoding="utf-8")
    with pytest.raises(ManifestInvalid):
        list_models(root)


def test_registry_absent_root_is_not_found(tmp_path: Path) -> None:
    """A mistyped root is no empty list."""
    with pytest.raises(ModelNotFound, match="is no folder"):
        list_models(tmp_path / "nowhere")
    with pytest.raises(ModelNotFound, match=r"manifest\.toml is missing"):
        open_model_folder(tmp_path)


def test_registry_folder_of_a_training_leads_to_its_model(tmp_path: Path) -> None:
    """Who names the folder of a training is told where its model lies."""
    shutil.copytree(SHIPPED_MODELS / "slice_classifier", tmp_path / "model")
    with pytest.raises(ModelNotFound, match=f"name {tmp_path / 'model'}"):
        open_model_folder(tmp_path)
