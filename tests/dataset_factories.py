"""A tiny data set of every layout, drawn from phantoms, in its files and folders.

``write_dataset(layout, folder)`` writes one that its reader accepts: two or three patients per
class, a few slices each, so that every recipe can be trained for a step and every model measured.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.phantom import Kernel, Pattern, Phantom, PhantomSpec, make_phantom
from tests.ct_factories import ct_dataset
from tests.ct_factories import write_dataset as write_dicom

#: Side of a slice in pixels, slices of a patient, millimetres of a pixel and of a slice.
SIZE, N_SLICES, PIXEL_MM, SLICE_MM = 64, 4, 6.0, 50.0
NORMAL, COVID_19, PNEUMONIA = Pattern


@cache
def chest(pattern: Pattern, seed: int = 1) -> Phantom:
    """Make one small chest of ``N_SLICES`` slices, caudal first."""
    return make_phantom(
        PhantomSpec(
            seed=seed,
            pattern=pattern,
            n_slices=N_SLICES,
            slice_spacing_mm=SLICE_MM,
            rows=SIZE,
            columns=SIZE,
            pixel_spacing_mm=PIXEL_MM,
            kernel=Kernel.STANDARD,
            noise_hu=15.0,
            severity=0.8,
        )
    )


def slice_hu(pattern: Pattern, patient: int, number: int) -> NDArray[np.int16]:
    """Give a slice; patients and patterns differ by a constant, so that no two are identical."""
    hu = chest(pattern).volume_hu[number % N_SLICES]
    shift_hu = 40 * patient + 12 * list(Pattern).index(pattern) + number // N_SLICES
    return np.asarray(hu + shift_hu, dtype=np.int16)


def slice_grey(pattern: Pattern, patient: int, number: int) -> NDArray[np.uint8]:
    """Give a slice in a lung window as 8 bit grey."""
    hu = slice_hu(pattern, patient, number).astype(np.float32)
    return np.asarray(np.clip((hu + 1024.0) / 1424.0, 0.0, 1.0) * 255.0, dtype=np.uint8)


def lung_mask(pattern: Pattern, number: int) -> NDArray[np.bool_]:
    return np.asarray(chest(pattern).lung_labels[number % N_SLICES] > 0)


def lesion_mask(pattern: Pattern, number: int) -> NDArray[np.bool_]:
    return np.asarray(chest(pattern).lesion_mask[number % N_SLICES])


def save(array: NDArray[np.generic], path: Path) -> None:
    """Save grey values, or a mask as 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = array * np.uint8(255) if array.dtype == np.bool_ else array
    Image.fromarray(np.asarray(grey, dtype=np.uint8)).save(path)


def write_covid_ct(folder: Path) -> None:
    """Write three papers and three figures, one each for training, validation and test."""
    for part, patient in (("train", 0), ("val", 1), ("test", 2)):
        for class_name, pattern in (("COVID", COVID_19), ("NonCOVID", NORMAL)):
            names = []
            for number in range(3):
                name = f"2020.02.0{patient}.2000000{patient}-p1-{number}.png"
                if class_name == "NonCOVID":
                    name = f"{10 * patient}%{number}.png"
                names.append(name)
                save(slice_grey(pattern, patient, number), folder / part / class_name / name)
            lists = folder / "Data-split" / class_name
            lists.mkdir(parents=True, exist_ok=True)
            (lists / f"{part}CT_{class_name}.txt").write_text("\n".join(names) + "\n", "utf-8")


def write_dicom_slice(path: Path, hu: NDArray[np.int16], height_mm: float, patient: str) -> None:
    """Write one CT slice; every slice of a patient has one SOP Instance UID, as some sets have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = ct_dataset(
        PatientID=patient,
        ImagePositionPatient=[-SIZE * PIXEL_MM / 2, -SIZE * PIXEL_MM / 2, height_mm],
        SliceLocation=str(height_mm),
        PixelSpacing=[PIXEL_MM, PIXEL_MM],
        Rows=hu.shape[0],
        Columns=hu.shape[1],
        PixelData=(hu.astype(np.int32) + 1024).clip(0, 4095).astype("<u2").tobytes(),
    )
    write_dicom(dataset, path)


def write_patient(folder: Path, pattern: Pattern, patient: int) -> None:
    """Write the slices of a patient; file names run against the order of the body, in part."""
    for number in range(N_SLICES):
        name = f"IM{(number * 3) % N_SLICES:04d}.dcm"
        hu = slice_hu(pattern, patient, number)
        write_dicom_slice(folder / name, hu, number * SLICE_MM, folder.name)


def write_spgc(folder: Path) -> None:
    """Write two patients of each class, with the published index and array of slice labels."""
    rows, labels = ["Label Index,Diagnosis,Relative Path,Folder/ID"], []
    for class_folder, stem, pattern in (
        ("COVID-19 subjects", "P00", COVID_19),
        ("CAP subjects", "cap00", PNEUMONIA),
        ("Normal subjects", "normal00", NORMAL),
    ):
        for patient in range(2):
            name = f"{stem}{patient + 1}"
            write_patient(folder / class_folder / name, pattern, patient)
            if pattern is not NORMAL:
                rows.append(f"{len(labels)},{class_folder},./,{name}")
                affected = [lesion_mask(pattern, n).any() for n in range(N_SLICES)][::-1]
                labels.append([*affected, False])
    (folder / "Index.csv").write_text("\n".join(rows) + "\n", "utf-8")
    np.save(folder / "Slice-level-labels.npy", np.array(labels, dtype=np.float64))


def write_large_slice_set(folder: Path) -> None:
    """Write two patients of each class with the three tables."""
    for class_folder, table, pattern in (
        ("1NonCOVID", "normal", NORMAL),
        ("2COVID", "covid", COVID_19),
        ("3CAP", "cap", PNEUMONIA),
    ):
        rows = ["File name,Patient ID,Slice,Diagnosis,Country"]
        for patient in range(3):
            for number in range(N_SLICES):
                name = f"{table}_p{patient}_{number}.png"
                path = folder / "curated_data" / "curated_data" / class_folder / name
                save(slice_grey(pattern, patient, number), path)
                rows.append(f"{name},{patient},{number},{table},Côte d'Ivoire")
        text = "\n".join(rows)
        (folder / f"meta_data_{table}.csv").write_bytes(text.encode("iso-8859-1"))


def write_sars_cov_2_ct(folder: Path) -> None:
    """Write four blocks of neighbours of each class."""
    for class_folder, stem, pattern in (
        ("COVID", "Covid", COVID_19),
        ("non-COVID", "Non-Covid", NORMAL),
    ):
        for patient in range(4):
            for number in range(3):
                path = folder / class_folder / f"{stem} ({40 * patient + number}).png"
                save(slice_grey(pattern, patient, number), path)


def write_covid_19_ct_seg(folder: Path) -> None:
    """Write three cases with masks; the one from Radiopaedia stands upside down."""
    for case, name in enumerate(("coronacases_001", "coronacases_002", "radiopaedia_4_85506_1")):
        for number in range(N_SLICES):
            step = -1 if name.startswith("radiopaedia") else 1
            file = f"{name}_{number:04d}.png"
            save(slice_grey(COVID_19, case, number)[::step], folder / "ct" / file)
            save(lung_mask(COVID_19, number)[::step], folder / "lungs" / file)
            save(lesion_mask(COVID_19, number)[::step], folder / "covid" / file)


def write_lctsc(folder: Path) -> None:
    """Write four cases as pictures with masks."""
    for case in range(4):
        for number in range(N_SLICES):
            name = f"Case_{case:03d}_{number:03d}.png"
            save(slice_grey(NORMAL, case, number), folder / "img" / name)
            save(lung_mask(NORMAL, number), folder / "lung" / name)


def write_lctsc_dicom(folder: Path) -> None:
    """Write two cases as DICOM with an array of masks beside each; not among ``WRITERS``."""
    for case in range(2):
        name = f"Case_{case:03d}"
        write_patient(folder / f"{name}_dicom", NORMAL, case)
        masks = np.stack([lung_mask(NORMAL, number) for number in range(N_SLICES)])
        np.savez(folder / f"{name}_lungmask.npz", masks=masks.astype(np.uint8))


def write_radiography(folder: Path) -> None:
    """Write the four class folders; masks are smaller than radiographs."""
    for label, name in enumerate(("Normal", "COVID", "Lung_Opacity", "Viral Pneumonia")):
        pattern = (NORMAL, COVID_19, PNEUMONIA, COVID_19)[label]
        for number in range(4):
            file = f"{name}-{number + 1}.png"
            grey = slice_grey(pattern, number + label, number)
            save(grey, folder / name / "images" / file)
            save(lung_mask(pattern, number)[::2, ::2], folder / name / "masks" / file)


def write_image_csv(folder: Path) -> None:
    """Write labelled pictures of three patients per class, with lung masks."""
    rows = ["file,label,patient,mask_lung"]
    for label, pattern in (("normal", NORMAL), ("covid-19", COVID_19)):
        for patient in range(3):
            for number in range(3):
                name = f"{label}-{patient}-{number}.png"
                save(slice_grey(pattern, patient, number), folder / name)
                save(lung_mask(pattern, number), folder / "masks" / name)
                rows.append(f"{name},{label},{label}-{patient},masks/{name}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", "utf-8")


def write_dicom_csv(folder: Path) -> None:
    """Write labelled slices of two patients per class."""
    rows = ["file,label"]
    for label, pattern in (("normal", NORMAL), ("covid-19", COVID_19)):
        for patient in range(2):
            name = f"{label}-{patient}"
            write_patient(folder / name, pattern, patient)
            rows += [f"{name}/IM{number:04d}.dcm,{label}" for number in range(N_SLICES)]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", "utf-8")


WRITERS: Final[Mapping[str, Callable[[Path], None]]] = {
    "covid-ct": write_covid_ct,
    "spgc": write_spgc,
    "large-slice-set": write_large_slice_set,
    "sars-cov-2-ct": write_sars_cov_2_ct,
    "covid-19-ct-seg": write_covid_19_ct_seg,
    "lctsc": write_lctsc,
    "radiography": write_radiography,
    "image-csv": write_image_csv,
    "dicom-csv": write_dicom_csv,
}


def write_dataset(layout: str, folder: Path) -> Path:
    """Write a tiny data set of one layout and give its root."""
    folder.mkdir(parents=True, exist_ok=True)
    WRITERS[layout](folder)
    return folder
