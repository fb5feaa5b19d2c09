"""Build the network that a recipe names, with the weights it starts from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import monai.networks.nets
from torch import nn

from models.errors import RecipeInvalid, TrainingFailed
from models.training.networks import AttentionUNet
from models.training.networks_custom import RadiographCnn, SeparableCnn
from models.training.recipe import NetworkSettings, NetworkSource, Normalisation, Recipe
from models.training.start_weights import read_weights
from models.training.torchvision_operators import import_timm

#: Mean and deviation of ImageNet's channels, of values from 0 to 1.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: Standard deviation of the weights of a new head.
_HEAD_DEVIATION = 0.01
#: Values of ``weights`` that name no file.
NO_WEIGHTS, HUB_WEIGHTS = "none", "hub"
#: The argument of timm's networks that says how convolutions pad.
_PADDING = "pad_type"


@dataclass(frozen=True, slots=True)
class BuiltNetwork:
    """A network and what its input is: ``(x / 255 - mean) / deviation`` per channel.

    ``head`` is the part that is new where the weights are pretrained; None where there is none.
    ``padding`` is how its convolutions pad, in timm's words; None where nobody chose.
    """

    network: nn.Module
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    head: nn.Module | None
    padding: str | None = None


def build_network(recipe: Recipe) -> BuiltNetwork:
    """Build the network of a recipe and load the weights that it starts from.

    Raises
    ------
    RecipeInvalid
        There is no such network, it does not take these arguments, or it has another number of
        parameters than the recipe says.
    TrainingFailed
        The weights cannot be had or do not fit.
    """
    is_file = recipe.network.weights not in {NO_WEIGHTS, HUB_WEIGHTS}
    start = read_weights(recipe.network.weights) if is_file else None
    settings = _padded(recipe.network, start.padding if start else None)
    build, sizes = _SOURCES[settings.source], (recipe.n_outputs, recipe.preprocessing.channels)
    network = build(replace(settings, weights=NO_WEIGHTS), *sizes)
    n_parameters = count_parameters(network)
    if settings.n_parameters not in {None, n_parameters}:
        raise RecipeInvalid(
            f"recipe {recipe.name}: network {settings.name} has {n_parameters} trainable "
            f"parameters, network.n_parameters says {settings.n_parameters}; correct the one "
            "that is wrong"
        )
    expected = None
    if settings.weights != NO_WEIGHTS:
        network = build(settings, *sizes)
    if settings.weights == HUB_WEIGHTS:
        expected = _hub_normalisation(network)
    elif start is not None:
        expected = start.load(network)
    mean, deviation = _normalisation(recipe, expected)
    padding = dict(settings.arguments).get(_PADDING)
    said = padding if isinstance(padding, str) else None
    return BuiltNetwork(network, mean, deviation, find_head(network), said)


def _padded(settings: NetworkSettings, padding: str | None) -> NetworkSettings:
    """Let a timm network pad as its weights were trained, unless the recipe says how."""
    is_said = _PADDING in dict(settings.arguments)
    if padding is None or is_said or settings.source is not NetworkSource.TIMM:
        return settings
    return replace(settings, arguments=(*settings.arguments, (_PADDING, padding)))


def count_parameters(network: nn.Module) -> int:
    """Count the values that training changes; running means and variances are none."""
    return sum(one.numel() for one in network.parameters())


def find_head(network: nn.Module) -> nn.Module | None:
    """Give the last layer of a classifier, the one that knows the classes."""
    give = getattr(network, "get_classifier", None)
    head = give() if callable(give) else getattr(network, "head", None)
    return head if isinstance(head, nn.Module) else None


Triple = tuple[tuple[float, ...], tuple[float, ...]]


def _normalisation(recipe: Recipe, expected: Triple | None) -> Triple:
    """Give mean and deviation of each channel."""
    channels = recipe.preprocessing.channels
    rule = recipe.preprocessing.normalisation
    if rule is Normalisation.SYMMETRIC:
        return (0.5,) * channels, (0.5,) * channels
    if rule is Normalisation.UNIT:
        return (0.0,) * channels, (1.0,) * channels
    chosen = expected if rule is Normalisation.WEIGHTS and expected is not None else _IMAGENET
    if channels == len(chosen[0]):
        return chosen
    # One grey channel: the mean over the three.
    return tuple((sum(one) / len(one),) * channels for one in chosen)  # type: ignore[return-value]


def _hub_normalisation(network: nn.Module) -> Triple:
    configuration: Mapping[str, Any] = getattr(network, "pretrained_cfg", {})
    return tuple(configuration["mean"]), tuple(configuration["std"])


def _timm_network(settings: NetworkSettings, n_outputs: int, channels: int) -> nn.Module:
    timm = import_timm()
    if not timm.is_model(settings.name):
        near = ", ".join(timm.list_models(f"*{settings.name.split('_')[0]}*")[:8]) or "none"
        raise RecipeInvalid(f"timm has no network {settings.name!r}; similar ones: {near}")
    network = _construct(
        settings,
        lambda: timm.create_model(
            settings.name,
            pretrained=settings.weights == HUB_WEIGHTS,
            num_classes=n_outputs,
            in_chans=channels,
            **dict(settings.arguments),
        ),
    )
    head = find_head(network)
    if isinstance(head, nn.Linear):
        # timm starts some heads so wide that two classes begin with logits of ten and more.
        nn.init.normal_(head.weight, std=_HEAD_DEVIATION)
        nn.init.zeros_(head.bias)
    return network


def _monai_network(settings: NetworkSettings, n_outputs: int, channels: int) -> nn.Module:
    kind = getattr(monai.networks.nets, settings.name, None)
    if kind is None:
        raise RecipeInvalid(f"MONAI has no network {settings.name!r}; see monai.networks.nets")
    return _construct(
        settings,
        lambda: kind(
            spatial_dims=2,
            in_channels=channels,
            out_channels=n_outputs,
            **dict(settings.arguments),
        ),
    )


def _own_network(settings: NetworkSettings, n_outputs: int, channels: int) -> nn.Module:
    known: Mapping[str, Callable[..., nn.Module]] = {
        "separable-cnn": lambda: SeparableCnn(n_outputs, channels),
        "radiograph-cnn": lambda: RadiographCnn(n_outputs, channels),
        "thin-attention-unet": lambda widths: AttentionUNet(tuple(widths)),
    }
    if settings.name not in known:
        raise RecipeInvalid(f"no network {settings.name!r} of our own; known: {', '.join(known)}")
    return _construct(settings, lambda: known[settings.name](**dict(settings.arguments)))


def _construct(settings: NetworkSettings, construct: Callable[[], object]) -> nn.Module:
    """Call a constructor; translate what foreign libraries raise at this door."""
    try:
        network = construct()
    except (TypeError, ValueError, KeyError) as error:
        raise RecipeInvalid(
            f"network {settings.name} does not take {dict(settings.arguments)} ({error}); "
            "correct network.arguments"
        ) from error
    except (OSError, RuntimeError) as error:
        raise TrainingFailed(
            f"weights of {settings.name} cannot be had ({error}); connect to the hub once, or "
            "--set network.weights=FILE, or --set network.weights=none"
        ) from error
    if not isinstance(network, nn.Module):
        raise RecipeInvalid(f"{settings.name} is no network")
    return network


_SOURCES: Mapping[NetworkSource, Callable[[NetworkSettings, int, int], nn.Module]] = {
    NetworkSource.TIMM: _timm_network,
    NetworkSource.MONAI: _monai_network,
    NetworkSource.OWN: _own_network,
}
