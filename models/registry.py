"""Find model folders by name and prove that their graph is the one their manifest pins."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from models.errors import ModelDigestMismatch, ModelNotFound
from models.manifest import CARD_FILE, GRAPH_FILE, MANIFEST_FILE, Manifest, read_manifest

#: Where the models stand that ship with the product.
SHIPPED_MODELS = Path(__file__).resolve().parent
#: Bytes read at a time while a graph is digested.
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with ``manifest.toml`` (already read), ``card.md`` and ``model.onnx``."""

    path: Path
    manifest: Manifest

    @property
    def graph(self) -> Path:
        """Path of the ONNX graph."""
        return self.path / GRAPH_FILE

    @property
    def card(self) -> Path | None:
        """Path of the model card; None where a folder made elsewhere has none."""
        card = self.path / CARD_FILE
        return card if card.is_file() else None


def open_model_folder(path: Path) -> ModelFolder:
    """Read the manifest of one folder.

    Raises
    ------
    ModelNotFound
        The folder, its manifest or its graph does not exist.
    ManifestInvalid
        The manifest is not valid.
    """
    for name in (MANIFEST_FILE, GRAPH_FILE):
        if not (path / name).is_file():
            # The folder of a training holds its model one level down.
            inner = path / "model"
            mend = f"name {inner}" if (inner / name).is_file() else "restore it"
            raise ModelNotFound(f"{path} is no model folder: {name} is missing; {mend}")
    return ModelFolder(path, read_manifest(path))


def list_models(root: Path = SHIPPED_MODELS) -> tuple[ModelFolder, ...]:
    """List the model folders directly under ``root``, by name of their manifest.

    Raises
    ------
    ModelNotFound
        ``root`` is no folder, or a folder has a manifest but no graph.
    ManifestInvalid
        A manifest is not valid; one broken model is not passed over in silence.
    """
    if not root.is_dir():
        raise ModelNotFound(f"model root {root} is no folder; correct the setting")
    folders = (open_model_folder(one.parent) for one in root.glob(f"*/{MANIFEST_FILE}"))
    return tuple(sorted(folders, key=lambda folder: folder.manifest.name))


def find_model(name: str, root: Path = SHIPPED_MODELS) -> ModelFolder:
    """Find a model by the name in its manifest or by the name of its folder.

    Raises
    ------
    ModelNotFound
        No such model; the message lists those that exist.
    """
    folders = list_models(root)
    for folder in folders:
        if name in (folder.manifest.name, folder.path.name):
            return folder
    known = ", ".join(folder.manifest.name for folder in folders) or "none"
    raise ModelNotFound(f"no model named {name!r} under {root}; there are: {known}")


def digest_file(path: Path) -> str:
    """Give the SHA-256 of a file in lower-case hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def verify_model(folder: ModelFolder, *, pinned_sha256: str | None = None) -> str:
    """Prove that the graph and its variants have the digests of the manifest, and of the settings.

    Returns
    -------
    :
        The SHA-256 of ``model.onnx``, lower-case hexadecimal.

    Raises
    ------
    ModelNotFound
        The graph does not exist.
    ModelDigestMismatch
        A byte differs from what the manifest or ``pinned_sha256`` promises.
    """
    digest = _promised(folder.graph, folder.manifest.sha256)
    for variant in folder.manifest.variants:
        _promised(folder.path / variant.file, variant.sha256)
    if pinned_sha256 is not None and digest != pinned_sha256.lower():
        raise ModelDigestMismatch(
            f"model {folder.manifest.name} has digest {digest}, the settings pin {pinned_sha256}; "
            "install the pinned model or pin this one"
        )
    return digest


def _promised(path: Path, sha256: str) -> str:
    """Give the digest of a file, which is the promised one."""
    if not path.is_file():
        raise ModelNotFound(f"{path} is missing; restore the model folder")
    digest = digest_file(path)
    if digest != sha256:
        raise ModelDigestMismatch(
            f"{path} has digest {digest}, its manifest says {sha256}; "
            "restore the file that was released"
        )
    return digest
