"""Train, measure and package the models that ship, and draw their failures.

Example: train the lung network on two CPU cores and write its model folder.

    python -m models.training lungs --data DATA/train/lctsc256 --out runs/lungs
    python -m models.training package lungs --weights runs/lungs/005/lungs.pt --out runs/model

Measure eight networks trained with ``--cross-validate``, each on the patient it left out.

    python -m models.training measure --data DATA/train/lctsc256 --weights runs/lungs
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import track

from models.datasets.lung_slices import HELD_OUT_CASE, read_lctsc
from models.errors import ModelError
from models.registry import SHIPPED_MODELS, find_model, open_model_folder
from models.session import LungSegmenter, Provider, SliceClassifier
from models.training import train_slices
from models.training.failures import FAILURES_FILE
from models.training.measure_lungs import measure_lungs, segmenter_of_fold
from models.training.networks import SliceNetwork, TwoAnswerUNet
from models.training.package import package_lungs, package_slices
from models.training.shipped_failures import draw_lung_failures, draw_slice_failures
from models.training.slice_bank import BankRecipe, build_bank
from models.training.train_lungs import (
    LungRecipe,
    finishing_recipe,
    sharpening_recipe,
    solid_lung_recipe,
    train_lungs,
)
from models.training.train_slices import (
    EXPECTED_PREVALENCE,
    TRAINED_PREVALENCE,
    SliceRecipe,
)


def main(arguments: list[str] | None = None) -> None:
    """Run one sub-command."""
    parser = make_parser()
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(parsed.threads)
    commands = {"package": package, "measure": measure, "failures": draw_failures}
    try:
        commands.get(parsed.command, train)(parsed)
    except ModelError as error:
        parser.exit(1, f"{error}\n")


def make_parser() -> argparse.ArgumentParser:
    """Describe the sub-commands."""
    parser = argparse.ArgumentParser(
        prog="python -m models.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, thing in (("lungs", "lung network"), ("slices", "slice classifier")):
        command = commands.add_parser(name, help=f"train the {thing}")
        command.add_argument("--data", type=Path, required=True, help="folder with img/ and lung/")
        command.add_argument("--out", type=Path, required=True, help="folder for the weights")
        command.add_argument(
            "--steps", type=_at_least(1), help="steps of each course instead of the recipe's"
        )
        command.add_argument("--phantoms", type=_at_least(0), help="phantoms per class")
        command.add_argument("--device", default="cpu", help="cpu or cuda")
        command.add_argument(
            "--cross-validate", action="store_true", help="one more network per patient left out"
        )
    command = commands.add_parser("package", help="export weights into a model folder")
    command.add_argument("network", choices=("lungs", "slices"))
    command.add_argument("--weights", type=Path, required=True, help="lungs.pt or slices.pt")
    command.add_argument("--template", type=Path, help="folder whose manifest text is taken over")
    command.add_argument("--out", type=Path, required=True, help="the model folder")
    command = commands.add_parser("measure", help="measure the lung networks of all folds")
    command.add_argument("--data", type=Path, required=True, help="folder with img/ and lung/")
    command.add_argument("--weights", type=Path, required=True, help="folder with 000/lungs.pt ...")
    command = commands.add_parser("failures", help="draw where the models that ship fail")
    command.add_argument("--out", type=Path, default=SHIPPED_MODELS, help="root of model folders")
    command.add_argument("--before", type=Path, help="model folder of the lungs shipped before")
    return parser


def _at_least(smallest: int) -> Callable[[str], int]:
    """Read a whole number that must not be below another."""

    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{value} is too small; give {smallest} or more")
        return value

    return number


def train(parsed: argparse.Namespace) -> None:
    """Build the slices and train one of the networks, and its folds where asked for."""
    slices = read_lctsc(parsed.data, with_held_out=parsed.cross_validate)
    bank_recipe = BankRecipe()
    if parsed.phantoms is not None:
        bank_recipe = replace(bank_recipe, n_phantoms=parsed.phantoms, n_abdomens=parsed.phantoms)
    bank = build_bank(slices, bank_recipe, processes=parsed.threads)
    patients_of = make_patients_of(frozenset(slices.patients), every=parsed.cross_validate)
    device = torch.device(parsed.device)
    if parsed.command == "lungs":
        lungs: dict[str, TwoAnswerUNet] | None = None
        courses = (LungRecipe(), finishing_recipe(), solid_lung_recipe(), sharpening_recipe())
        for recipe in courses:
            course = replace(recipe, n_steps=parsed.steps or recipe.n_steps)
            lungs = train_lungs(bank, patients_of, course, parsed.out, device=device, start=lungs)
    else:
        networks: dict[str, SliceNetwork] | None = None
        for one in (SliceRecipe(), train_slices.finishing_recipe()):
            part = replace(one, n_steps=parsed.steps or one.n_steps)
            networks = train_slices.train_slices(
                bank, patients_of, part, parsed.out, device=device, start=networks
            )


def make_patients_of(patients: frozenset[str], *, every: bool) -> dict[str, frozenset[str]]:
    """Name each fold by the patient it leaves out; the first is the model that ships."""
    left_out = [HELD_OUT_CASE, *sorted(patients - {HELD_OUT_CASE})] if every else [HELD_OUT_CASE]
    return {one: patients - {one} for one in left_out}


def package(parsed: argparse.Namespace) -> None:
    """Export weights, pin the manifest, print how far ONNX Runtime is from torch."""
    weights = torch.load(parsed.weights, weights_only=True)
    if parsed.network == "lungs":
        template = parsed.template or SHIPPED_MODELS / "lung_segmentation"
        lungs = TwoAnswerUNet(LungRecipe().widths)
        lungs.load_state_dict(weights)
        largest = package_lungs(lungs, LungRecipe().grid, template=template, folder=parsed.out)
    else:
        template = parsed.template or SHIPPED_MODELS / "slice_classifier"
        slices = SliceNetwork(SliceRecipe().widths)
        slices.load_state_dict(weights)
        slices.expect_prevalence(EXPECTED_PREVALENCE, trained=TRAINED_PREVALENCE)
        largest = package_slices(slices, SliceRecipe().grid, template=template, folder=parsed.out)
    print(f"{parsed.out}: largest difference between torch and ONNX Runtime {largest:.1e}")


def measure(parsed: argparse.Namespace) -> None:
    """Print Dice of every state of the lungs, by patient and with its interval."""
    recipe = LungRecipe()
    threshold = find_model("lung-segmentation").manifest.operating_point.threshold
    slices = read_lctsc(parsed.data, with_held_out=True)
    segmenter_of = segmenter_of_fold(parsed.weights, recipe.widths, recipe.grid, threshold)
    for one in measure_lungs(slices, segmenter_of, track):
        low, high = one.involved
        print(f"{one.state.value}, {low:.0%} to {high:.0%} of the lungs:", end=" ")
        print(f"Dice {one.mean.value:.4f} ({one.mean.lower:.4f} to {one.mean.upper:.4f}),", end=" ")
        print(f"threshold method {one.by_threshold:.4f};", end=" ")
        print(", ".join(f"{name} {value:.3f}" for name, value in one.by_patient.items()))


def draw_failures(parsed: argparse.Namespace) -> None:
    """Write ``failures.png`` beside the card of each model that ships."""
    folder = find_model("lung-segmentation")
    provider, threads = Provider.CPU, parsed.threads
    lungs = LungSegmenter(folder, provider=provider, threads=threads)
    before = None
    if parsed.before is not None:
        older = open_model_folder(parsed.before)
        before = LungSegmenter(older, provider=provider, threads=threads)
    draw_lung_failures(parsed.out / folder.path.name / FAILURES_FILE, lungs, before)
    slices = find_model("slice-classifier")
    classifier = SliceClassifier(slices, provider=provider, threads=threads)
    draw_slice_failures(parsed.out / slices.path.name / FAILURES_FILE, lungs, classifier)


if __name__ == "__main__":
    main()
