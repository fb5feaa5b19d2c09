"""What can go wrong with a model or the data it is measured on, as one tree.

Every message names the thing at fault and what mends it. Only ``InferenceFailed`` may pass when the
same is tried again with the same files and settings; a caller may treat the rest as permanent.

```text
ModelError
├── ManifestInvalid        manifest.toml lacks a key, has an unknown one, or a value out of range
├── RecipeInvalid          a recipe lacks a key, has an unknown one, or asks for what does not exist
├── TrainingFailed         data, weights or files of a training that cannot be used as they are
├── ModelNotFound          no folder of that name, or a folder without model.onnx
├── ModelDigestMismatch    model.onnx is not the file that the manifest or the settings pinned
├── ModelInputInvalid      an array of the wrong shape or type was handed to a session
├── ProviderUnavailable    not even the fallback execution provider could open the graph
├── InferenceFailed        the open graph failed on a batch, for example out of memory
└── DatasetError
    ├── DatasetInvalid     a folder is not of the layout it was read as, or a file in it is broken
    └── LeakingSplit       a patient, or an image, would stand on two sides of a split
```
"""


class ModelError(Exception):
    """A model cannot be found, trusted, opened or fed."""


class ManifestInvalid(ModelError):
    """The manifest is not one; the message names file, key and value."""


class RecipeInvalid(ModelError):
    """The recipe is not one; the message names file, key and value."""


class TrainingFailed(ModelError):
    """A training cannot start or go on; the message says with which data, weights or files."""


class ModelNotFound(ModelError):
    """No such model; the message lists those that exist."""


class ModelDigestMismatch(ModelError):
    """The bytes of the graph are not the pinned ones; nothing may be screened with them."""


class ModelInputInvalid(ModelError):
    """The caller's array does not fit the input contract."""


class ProviderUnavailable(ModelError):
    """ONNX Runtime could open the graph with no execution provider."""


class InferenceFailed(ModelError):
    """ONNX Runtime failed while it ran a batch; memory of a shared device is the usual cause."""


class DatasetError(ModelError):
    """Data to train or measure with cannot be used as they are."""


class DatasetInvalid(DatasetError):
    """A folder is not of the layout that was named, or a file is broken; the message mends it."""


class LeakingSplit(DatasetError):
    """A patient or the same pixels stand on two sides of a split; the message names them."""
