"""Which class of the data is which class of the model: by name, by usual alias, or as stated."""

from collections.abc import Mapping, Sequence
from typing import Final

from models.errors import DatasetInvalid

_ALIASES: Final[Mapping[str, str]] = {
    "covid": "covid-19",
    "covid19": "covid-19",
    "ct-covid": "covid-19",
    "2covid": "covid-19",
    "noncovid": "non-covid-19",
    "non-covid": "non-covid-19",
    "ct-noncovid": "non-covid-19",
    "noncovid-19": "non-covid-19",
    "cap": "community-acquired-pneumonia",
    "3cap": "community-acquired-pneumonia",
}


def match_classes(
    have: Sequence[str], want: Sequence[str], stated: Mapping[str, str] | None = None
) -> tuple[int, ...]:
    """Give for each class of the data the index of the model's class.

    Numbers are taken as indices where every class of the data is one.

    Parameters
    ----------
    have
        Classes of the data.
    want
        Classes of the model, in its order.
    stated
        What the user says: class of the data to class of the model.

    Raises
    ------
    DatasetInvalid
        A class of the data is none of the model's.
    """
    said = dict(stated or {})
    if have and all(name.isdecimal() and int(name) < len(want) for name in have) and not said:
        return tuple(int(name) for name in have)
    by_name = {_usual(name): index for index, name in enumerate(want)}
    matched = []
    for name in have:
        index = by_name.get(_usual(said.get(name, name)))
        if index is None:
            raise DatasetInvalid(
                f"class {name!r} of the data is none of the model's ({', '.join(want)}); rename "
                f"it, or say what it stands for with --map {name}=CLASS"
            )
        matched.append(index)
    unknown = sorted(set(said) - set(have))
    if unknown:
        raise DatasetInvalid(f"the data have no class {unknown[0]!r}; they have {', '.join(have)}")
    return tuple(matched)


def _usual(name: str) -> str:
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    return _ALIASES.get(plain, plain)
