"""Paint lesions into a batch of slices on the device that trains, a new set at every step.

Two-dimensional sister of ``models.phantom.lesions``: no two steps see the same lesion. Which form
belongs to which class is drawn from how often radiologists describe it, so that a form both
diseases show stays uncertain: a network taught this way learns honest odds.

References
----------
Bai et al. 2020, Radiology 296:E46 (219 COVID-19 against 205 other viral pneumonias on CT):
peripheral 80 against 57 %, ground glass 91 against 68 %, central and peripheral 14 against 35 %.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from models.training.augment import smooth_field, uniform

#: Deepest distance from the lung's surface that is told apart, in pixels.
_DEEPEST = 16
_COVID_19, _CAP = 1, 2


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a class shows a form on an affected slice; probabilities from 0 to 1."""

    lobar: float  #: one dense region that ends at a fissure
    scattered: float  #: many small foci, bronchopneumonia
    extensive: float  #: much of both lungs, patchy, more of it behind
    peripheral: float  #: otherwise anywhere
    bilateral: float
    dense: float  #: mostly consolidation
    mixed: float  #: ground glass with denser parts; the rest is ground glass alone
    paving: float  #: net of lines over ground glass
    bronchogram: float  #: open bronchi in what is dense
    most_foci: int


def covid_19_habits() -> Habits:
    """Give our reading of COVID-19."""
    return Habits(
        lobar=0.02,
        scattered=0.04,
        extensive=0.15,
        peripheral=0.82,
        bilateral=0.68,
        dense=0.08,
        mixed=0.35,
        paving=0.35,
        bronchogram=0.3,
        most_foci=8,
    )


def cap_habits() -> Habits:
    """Give our reading of bacterial, viral and atypical pneumonia together."""
    return Habits(
        lobar=0.28,
        scattered=0.22,
        extensive=0.12,
        peripheral=0.5,
        bilateral=0.4,
        dense=0.4,
        mixed=0.35,
        paving=0.12,
        bronchogram=0.6,
        most_foci=6,
    )


@dataclass(frozen=True, slots=True)
class LesionPainting:
    """What is painted; lengths in pixels of about 2 mm."""

    covid_19: Habits = field(default_factory=covid_19_habits)
    cap: Habits = field(default_factory=cap_habits)
    smallest_radius: float = 2.0
    largest_radius: float = 13.0
    least_rise_hu: float = 110.0  #: fainter haze is within what healthy lungs show
    mask_share: float = 0.2  #: from this share of replaced air a pixel is lesion
    mask_rise_hu: float = 55.0  #: and from this rise


@dataclass(frozen=True, slots=True)
class PaintedSlices:
    """HU with lesions, where lesions are, and where they are consolidated; ``(batch, 1, r, c)``."""

    hu: Tensor
    lesion: Tensor
    dense: Tensor


@dataclass(frozen=True, slots=True)
class _Place:
    """Where each pixel lies in its lungs; ``(batch, 1, rows, columns)`` or broadcastable."""

    lung: Tensor
    depth: Tensor  #: distance from the lung's surface, 0 to ``_DEEPEST``
    row: Tensor
    column: Tensor
    posterior: Tensor  #: 0 front to 1 back
    lateral: Tensor  #: 0 middle to 1 chest wall
    is_low_side: Tensor


@dataclass(frozen=True, slots=True)
class _Look:
    """Drawn per slice, ``(batch, 1, 1, 1)``; what is yes or no is 1 or 0."""

    lobar: Tensor
    scattered: Tensor
    extensive: Tensor
    peripheral: Tensor
    bilateral: Tensor
    dense: Tensor
    mixed: Tensor
    paving: Tensor
    bronchogram: Tensor
    n_foci: Tensor
    radius: Tensor
    glass_hu: Tensor  #: rise above healthy lung


def paint_lesions(
    hu: Tensor,
    lung: Tensor,
    classes: Tensor,
    settings: LesionPainting,
    generator: torch.Generator,
) -> PaintedSlices:
    """Paint lesions of each slice's class into its lungs.

    Parameters
    ----------
    hu, lung
        ``(batch, 1, rows, columns)``, HU and 0 or 1.
    classes
        ``(batch,)``: 0 stays as it is, 1 COVID-19, 2 community-acquired pneumonia.
    """
    n, _, rows, columns = hu.shape
    place = _place(lung)
    look = _draw_look(classes, settings, generator)
    coarse = smooth_field(generator, n, (rows, columns), n_cells=22)
    fine = smooth_field(generator, n, (rows, columns), n_cells=56)
    reference_hu = _reference_hu(hu, lung)
    share, rise_hu = _foci(place, look, coarse + 0.5 * fine, settings, generator)
    share, rise_hu = _spread(place, look, coarse + 0.5 * fine, (share, rise_hu), generator)
    on = (classes > 0).to(torch.float32).view(n, 1, 1, 1)
    share = share * on * functional.max_pool2d(lung, 3, stride=1, padding=1)
    rise_hu = rise_hu + 30.0 * fine
    lines = torch.exp(-((smooth_field(generator, n, (rows, columns), n_cells=64) / 0.3) ** 2))
    rise_hu = rise_hu + look.paving * lines * uniform(generator, n, 50.0, 170.0)
    changed = _replace_air(hu, reference_hu, share, rise_hu.clamp(0.0, 1000.0))
    solid = ((share - 0.6) / 0.3).clamp(0.0, 1.0) * (rise_hu > 650.0) * lung  # noqa: PLR2004
    tubes = torch.exp(-((smooth_field(generator, n, (rows, columns), n_cells=26) / 0.12) ** 2))
    tubes = tubes * (coarse > 0.3) * look.bronchogram  # noqa: PLR2004  short pieces, not nets
    changed = changed + solid * tubes * 0.8 * (reference_hu - 60.0 - changed).clamp_max(0.0)
    lesion = (share > settings.mask_share) * (share * rise_hu > settings.mask_rise_hu) * lung
    dense = lesion * (share * rise_hu + reference_hu > -350.0)  # noqa: PLR2004  vessels drown
    return PaintedSlices(changed, lesion.to(torch.float32), dense.to(torch.float32))


def _place(lung: Tensor) -> _Place:
    """Measure where pixels lie, from the mask alone."""
    _, _, rows, columns = lung.shape
    row = torch.arange(rows, dtype=torch.float32, device=lung.device).view(1, 1, rows, 1)
    column = torch.arange(columns, dtype=torch.float32, device=lung.device).view(1, 1, 1, columns)
    inside = lung
    depth = torch.zeros_like(lung)
    for number in range(_DEEPEST):
        depth = depth + inside
        if number % 3 == 2:  # noqa: PLR2004  squares and crosses in turn come near a circle
            inside = -functional.max_pool2d(-inside, 3, stride=1, padding=1)
        else:
            across = -functional.max_pool2d(-inside, (1, 3), stride=1, padding=(0, 1))
            down = -functional.max_pool2d(-inside, (3, 1), stride=1, padding=(1, 0))
            inside = torch.minimum(across, down)
    far = 1e4
    first_row = torch.where(lung > 0, row, far).amin(dim=(2, 3), keepdim=True)
    last_row = torch.where(lung > 0, row, -far).amax(dim=(2, 3), keepdim=True)
    first_column = torch.where(lung > 0, column, far).amin(dim=(2, 3), keepdim=True)
    last_column = torch.where(lung > 0, column, -far).amax(dim=(2, 3), keepdim=True)
    middle = 0.5 * (first_column + last_column)
    half = (0.5 * (last_column - first_column)).clamp_min(1.0)
    posterior = ((row - first_row) / (last_row - first_row).clamp_min(1.0)).clamp(0.0, 1.0)
    lateral = ((column - middle).abs() / half).clamp(0.0, 1.0)
    low = (column < middle).to(torch.float32)
    return _Place(lung, depth, row, column, posterior, lateral, low)


def _draw_look(classes: Tensor, settings: LesionPainting, generator: torch.Generator) -> _Look:
    """Draw the form of each slice's lesions by the habits of its class."""
    n = len(classes)
    covid, cap = settings.covid_19, settings.cap
    is_cap = (classes == _CAP).view(n, 1, 1, 1)

    def yes(name: str) -> Tensor:
        odds = torch.where(is_cap, float(getattr(cap, name)), float(getattr(covid, name)))
        return (uniform(generator, n, 0.0, 1.0) < odds).to(torch.float32)

    lobar = yes("lobar")
    scattered = yes("scattered") * (1.0 - lobar)
    dense = torch.maximum(yes("dense"), lobar)
    most = torch.where(is_cap, float(cap.most_foci), float(covid.most_foci))
    n_foci = 1.0 + (most - 1.0) * uniform(generator, n, 0.0, 1.0) ** 1.6
    n_foci = torch.where(lobar > 0, n_foci.clamp_max(2.0), n_foci)
    n_foci = torch.where(scattered > 0, n_foci + 3.0, n_foci)
    span = math.log(settings.largest_radius / settings.smallest_radius)
    radius = settings.smallest_radius * torch.exp(span * uniform(generator, n, 0.0, 1.0))
    radius = torch.where(scattered > 0, radius.clamp_max(5.0), radius)
    radius = torch.where(lobar > 0, 2.5 * radius.clamp_min(8.0), radius)
    return _Look(
        lobar=lobar,
        scattered=scattered,
        extensive=yes("extensive") * (1.0 - lobar),
        peripheral=yes("peripheral") * (1.0 - scattered),
        bilateral=yes("bilateral") * (1.0 - lobar),
        dense=dense,
        mixed=yes("mixed") * (1.0 - dense),
        paving=yes("paving"),
        bronchogram=yes("bronchogram"),
        n_foci=n_foci,
        radius=radius,
        glass_hu=settings.least_rise_hu + 300.0 * uniform(generator, n, 0.0, 1.0) ** 1.3,
    )


def _centres(place: _Place, look: _Look, n_foci: int, generator: torch.Generator) -> Tensor:
    """Draw centres by where lesions like to be, ``(batch, foci)`` flat pixel numbers."""
    n = place.lung.shape[0]
    near = torch.exp(-place.depth / uniform(generator, n, 2.0, 6.0)) * (0.1 + place.lateral) ** 1.5
    anywhere = 0.3 + place.depth / _DEEPEST
    weight = torch.where(look.peripheral > 0, near, anywhere)
    weight = weight * torch.exp(uniform(generator, n, -0.5, 3.0) * place.posterior)
    kept = (uniform(generator, n, 0.0, 1.0) < 0.5).to(torch.float32)  # noqa: PLR2004  either lung
    one_side = place.is_low_side * kept + (1.0 - place.is_low_side) * (1.0 - kept)
    weight = weight * torch.maximum(one_side, look.bilateral)
    weight = (weight * place.lung).flatten(1) + 1e-8
    return torch.multinomial(weight, n_foci, replacement=True, generator=generator)


def _foci(
    place: _Place,
    look: _Look,
    rough: Tensor,
    settings: LesionPainting,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Give the share of replaced air, 0 to 1, and the rise in HU where air is replaced."""
    n, _, _, columns = place.lung.shape
    most = 3 + max(settings.covid_19.most_foci, settings.cap.most_foci)
    centres = _centres(place, look, most, generator)
    left_over = torch.ones_like(place.lung)
    weighted_rise = torch.zeros_like(place.lung)
    weight = torch.full_like(place.lung, 1e-4)
    fissure = uniform(generator, n, -math.pi, math.pi)
    for number in range(most):
        centre = centres[:, number].view(n, 1, 1, 1)
        down = place.row - centre // columns
        across = place.column - centre % columns
        share, rise_hu = _one_focus(place, look, (down, across), rough, fissure, generator)
        share = share * (look.n_foci > number)
        left_over = left_over * (1.0 - share)
        weighted_rise = weighted_rise + share * rise_hu
        weight = weight + share
    return 1.0 - left_over, weighted_rise / weight


def _one_focus(  # noqa: PLR0917  where, what, and the randomness of both
    place: _Place,
    look: _Look,
    away: tuple[Tensor, Tensor],
    rough: Tensor,
    fissure: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Give share and rise of one focus in every slice."""
    n = place.lung.shape[0]
    down, across = away
    angle = uniform(generator, n, 0.0, math.pi)
    radius = look.radius * uniform(generator, n, 0.6, 1.5)
    stretch = torch.exp(uniform(generator, n, -0.5, 0.5))
    along = (down * angle.cos() + across * angle.sin()) / (radius * stretch)
    beside = (across * angle.cos() - down * angle.sin()) / (radius / stretch)
    distance = torch.sqrt(along**2 + beside**2 + 1e-6) + uniform(generator, n, 0.08, 0.4) * rough
    softness = uniform(generator, n, 0.2, 1.1)
    share = _soft_step((1.0 + softness / 2.0 - distance) / softness)
    band = (uniform(generator, n, 0.0, 1.0) < 0.35).to(torch.float32) * look.peripheral  # noqa: PLR2004
    depth = uniform(generator, n, 2.0, 8.0) * (1.0 + 0.3 * rough)
    rim = _soft_step((depth + 1.5 - place.depth) / 3.0)
    share = share * (1.0 - band + band * rim)
    beyond = down * fissure.cos() + across * fissure.sin() + 1.2 * rough
    cut = torch.sigmoid((beyond + 0.5 * radius) * 1.5)
    share = share * (1.0 - look.lobar + look.lobar * cut)
    share = share * uniform(generator, n, 0.75, 1.0)
    dense_hu = uniform(generator, n, 730.0, 900.0)
    glass_hu = look.glass_hu * uniform(generator, n, 0.7, 1.3)
    is_dense = (uniform(generator, n, 0.0, 1.0) < 0.9 * look.dense + 0.3 * look.mixed).float()
    has_core = (uniform(generator, n, 0.0, 1.0) < 0.5 * look.mixed).float()
    core = _soft_step((0.75 - distance) / 0.6) * has_core
    core_hu = uniform(generator, n, 100.0, 500.0)
    rise_hu = is_dense * dense_hu + (1.0 - is_dense) * (glass_hu + core * core_hu)
    return share, rise_hu


def _spread(
    place: _Place,
    look: _Look,
    rough: Tensor,
    foci: tuple[Tensor, Tensor],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Add patchy disease of large parts of both lungs to the slices that have it."""
    n = place.lung.shape[0]
    share, rise_hu = foci
    size = (place.lung.shape[2], place.lung.shape[3])
    wide = smooth_field(generator, n, size, n_cells=10)
    level = wide + 0.7 * rough + uniform(generator, n, 0.0, 4.0) * (place.posterior - 0.5)
    cut = uniform(generator, n, -0.6, 1.2)
    patch = torch.sigmoid((level - cut) * uniform(generator, n, 1.5, 6.0)) * look.extensive
    patch = patch * uniform(generator, n, 0.7, 1.0)
    core = _soft_step((level - cut - uniform(generator, n, 0.8, 2.5)) / 0.8)
    patch_hu = look.glass_hu + core * uniform(generator, n, 0.0, 500.0)
    total = share + patch
    mean_hu = (share * rise_hu + patch * patch_hu) / total.clamp_min(1e-4)
    return 1.0 - (1.0 - share) * (1.0 - patch), mean_hu


def _reference_hu(hu: Tensor, lung: Tensor) -> Tensor:
    """Give the HU of healthy lung in each slice, ``(batch, 1, 1, 1)``."""
    aerated = lung * (hu < -650.0)  # noqa: PLR2004  vessels and lesions apart
    n_aerated = aerated.sum(dim=(2, 3), keepdim=True)
    mean = (aerated * hu).sum(dim=(2, 3), keepdim=True) / n_aerated.clamp_min(1.0)
    return torch.where(n_aerated > 0, mean, -850.0)


def _replace_air(hu: Tensor, reference_hu: Tensor, share: Tensor, rise_hu: Tensor) -> Tensor:
    """Raise HU where there is air, sparing vessels and open airways."""
    solid_hu = 40.0 - reference_hu
    vessel = ((hu - reference_hu) / solid_hu).clamp(0.0, 1.0)
    open_share = ((hu - reference_hu + 150.0) / 70.0).clamp(0.0, 1.0)
    return hu + torch.minimum(rise_hu, solid_hu) * share * open_share * (1.0 - vessel)


def _soft_step(value: Tensor) -> Tensor:
    """Rise smoothly from 0 at 0 to 1 at 1."""
    clipped = value.clamp(0.0, 1.0)
    return clipped * clipped * (3.0 - 2.0 * clipped)
