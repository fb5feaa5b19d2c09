"""What a training is, as frozen values: one recipe holds every number of one published system.

A recipe is a settings file; `models.training.recipe_files` reads it. A file can forget nothing:
there are no defaults, except where a docstring says so.
"""

from dataclasses import dataclass, field
from enum import Enum

from models.manifest import HuWindow


class RecipeTask(Enum):
    """What the network learns."""

    CLASSIFICATION = "classification"
    """One class per image."""
    SEGMENTATION = "segmentation"
    """One structure per pixel."""


class SplitRule(Enum):
    """How a data set is divided."""

    LISTS = "lists"
    """As the lists say that come with the data."""
    PATIENT = "patient"
    """Whole patients, drawn until each side has its share."""
    FOLDS = "folds"
    """Each patient is validated on once; one network per fold, all of them exported as one."""


class Crop(Enum):
    """Which part of an image the network sees."""

    WHOLE = "whole"
    """All of it."""
    LUNGS = "lungs"
    """The box around the lungs, shrunk; the whole image where no lungs are found."""


class Normalisation(Enum):
    """How grey values from 0 to 255 become the input of the network."""

    WEIGHTS = "weights"
    """As the pretrained weights expect; as ``imagenet`` where there are none."""
    IMAGENET = "imagenet"
    """Mean and deviation of ImageNet's three channels."""
    SYMMETRIC = "symmetric"
    """-1 to 1."""
    UNIT = "unit"
    """0 to 1."""


class NetworkSource(Enum):
    """Who wrote the network."""

    TIMM = "timm"
    """Any classifier of timm, by its name there."""
    MONAI = "monai"
    """A network of ``monai.networks.nets``, by its class name."""
    OWN = "own"
    """A network of this project."""


class OptimiserName(Enum):
    """Rule of the weight updates."""

    ADAM = "adam"
    """Kingma and Ba 2015, arXiv:1412.6980."""
    ADAMW = "adamw"
    """Loshchilov and Hutter 2019, arXiv:1711.05101."""
    SGD = "sgd"
    """With momentum 0.9."""


class Monitor(Enum):
    """Figure on the validation data by which the best epoch is chosen."""

    LOSS = "loss"
    """The lowest."""
    ACCURACY = "accuracy"
    """The highest; of equals the one with the lower loss."""
    AUC = "auc"
    """The highest; mean over the classes, each against the rest."""
    DICE = "dice"
    """The highest mean over the images."""
    LAST = "last"
    """No choice: the last epoch is kept, whatever the validation data say."""


class MetricName(Enum):
    """Figures that a system published or that are reported for it."""

    ACCURACY = "accuracy"
    PRECISION = "precision"
    RECALL = "recall"
    F1 = "f1"
    SPECIFICITY = "specificity"
    AUC = "auc"
    DICE = "dice"


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which data, and how they are divided.

    ``classes`` must be those of the layout, in its order, and are empty for a segmentation, whose
    ``structure`` names the mask. ``shares`` are training, validation and test where ``split`` is by
    patient; ``n_folds`` counts the folds where it is ``folds`` and is 0 otherwise.
    ``allow_leaks_because`` is empty as a rule (see ``models.datasets.splits``).
    """

    layout: str
    classes: tuple[str, ...]
    structure: str
    split: SplitRule
    shares: tuple[float, float, float]
    allow_leaks_because: str = ""
    n_folds: int = 0


@dataclass(frozen=True, slots=True)
class LungBoxes:
    """How the box around the lungs is found.

    ``model`` is a model folder of task lung-segmentation, by name or path. ``shrink_pixels`` is cut
    off each side of the box, in pixels of the image. ``grey_window`` is the window that pictures of
    unknown window are assumed to have, where the model wants HU.
    """

    model: str
    shrink_pixels: float
    grey_window: HuWindow


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From an image of any size to the input of the network.

    ``hu_window`` turns HU into grey values; None for data that are grey already. ``lungs`` is None
    where the whole image is used. ``is_mirrored`` lets the exported classifier average the logits
    of each image and its mirror image; false where the recipe does not say.
    """

    rows: int
    columns: int
    channels: int
    normalisation: Normalisation
    crop: Crop
    hu_window: HuWindow | None
    lungs: LungBoxes | None
    is_mirrored: bool = False


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Which network, with which weights to start from.

    ``weights`` is ``none``, ``hub`` (timm's own, downloaded once) or the path of a ``.tflite``,
    ``.safetensors`` or ``.pt`` file. ``n_parameters`` is what the network must have (None: not
    checked); ``arguments`` go to the network's own constructor.
    """

    source: NetworkSource
    name: str
    weights: str
    n_parameters: int | None
    arguments: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Softmax cross entropy.

    ``balanced`` weighs each class by the inverse of its share of the training data, mean weight 1
    over the images.
    """

    balanced: bool
    label_smoothing: float


@dataclass(frozen=True, slots=True)
class BinaryCrossEntropy:
    """Sigmoid cross entropy on one logit; for two classes or for masks.

    ``balanced`` weighs positive samples by the ratio of negative to positive ones.
    """

    balanced: bool


@dataclass(frozen=True, slots=True)
class Focal:
    """Focal loss over classes; Lin et al. 2017, arXiv:1708.02002.

    ``alpha`` is the weight of each class, in order; ``gamma`` the exponent that plays down what is
    already right.
    """

    alpha: tuple[float, ...]
    gamma: float


@dataclass(frozen=True, slots=True)
class FocalTversky:
    """Focal Tversky loss over masks; see ``models.training.losses.focal_tversky``."""

    alpha: float
    beta: float
    gamma: float
    smooth: float


Loss = CrossEntropy | BinaryCrossEntropy | Focal | FocalTversky


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """Update rule; ``weight_decay`` is decoupled for adamw, an L2 penalty otherwise."""

    name: OptimiserName
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True, slots=True)
class ConstantRate:
    """The learning rate stays as it is."""


@dataclass(frozen=True, slots=True)
class ExponentialRate:
    """The learning rate falls by ``factor`` every ``every_epochs``, smoothly between."""

    factor: float
    every_epochs: float


@dataclass(frozen=True, slots=True)
class CosineRate:
    """Half a cosine to zero, after a straight rise over ``warmup_share`` of the steps."""

    warmup_share: float


@dataclass(frozen=True, slots=True)
class OneCycleRate:
    """Up during ``warmup_share`` of the steps, then down; Smith, Topin 2018, arXiv:1708.07120."""

    warmup_share: float


Schedule = ConstantRate | ExponentialRate | CosineRate | OneCycleRate


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random changes of grey images, each drawn anew for each image and epoch.

    ``scale`` 0.1 zooms by 0.9 to 1.1; ``shift`` is a share of the side; ``brightness`` a share of
    the grey range; ``contrast`` and ``gamma`` 0.2 give factors from 0.8 to 1.2; ``noise`` is the
    largest standard deviation, as a share of the grey range, and half of the images get none; the
    flips are probabilities. ``window`` cuts up to that share off either end of the grey range and
    spreads the rest over all of it, as another CT window would; ``blur`` 0.8 mixes each image with
    its blurred self from 0.8 (blurred) to -0.8 (sharpened). The last two are 0 where the recipe
    does not say.
    """

    rotation_degrees: float
    scale: float
    shift: float
    horizontal_flip: float
    vertical_flip: float
    brightness: float
    contrast: float
    gamma: float
    noise: float
    window: float = 0.0
    blur: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Length and seed.

    ``frozen_epochs`` is how many first epochs train the head alone. ``average_decay`` keeps an
    exponential moving average of the weights, which is what is validated and exported; 0 is off.
    ``n_members`` networks are trained with neighbouring seeds and exported as one that averages
    their logits; 1 where the recipe does not say, and set by the folds where there are folds.
    ``is_decision_balanced`` moves the exported logits by offsets fitted on the validation data, so
    that no class is preferred (see ``models.training.decision_offset``); false where the recipe
    does not say.
    """

    epochs: int
    batch_size: int
    seed: int
    monitor: Monitor
    frozen_epochs: int
    average_decay: float
    n_members: int = 1
    is_decision_balanced: bool = False


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """One figure of the publication, 0 to 1, and on what it was measured."""

    metric: MetricName
    value: float
    measured_on: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that one training is."""

    name: str
    summary: str
    citation: str
    notes: str  #: what differs from the publication and what it leaves open
    task: RecipeTask
    data: DataSettings
    preprocessing: Preprocessing
    network: NetworkSettings
    loss: Loss
    optimiser: OptimiserSettings
    schedule: Schedule
    augmentation: Augmentation
    training: TrainingSettings
    metrics: tuple[MetricName, ...]
    published: tuple[PublishedFigure, ...] = field(default=())

    @property
    def n_outputs(self) -> int:
        """Logits of the network: one for masks and for binary cross entropy."""
        if self.task is RecipeTask.SEGMENTATION or isinstance(self.loss, BinaryCrossEntropy):
            return 1
        return len(self.data.classes)
