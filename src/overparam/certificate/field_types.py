"""Typed records: what a certificate's file holds, each field stated once, with its range.

The types are msgspec's: from one class come the object (immutable, hashable), the strict decoder
and the JSON Schema. JSON has no infinity; in files null stands for it, and a field that does not
apply is left out.
"""

import copyreg
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

if TYPE_CHECKING:  # the same function, and type checkers hold its keywords to the fields
    from dataclasses import replace as replace
else:
    from msgspec.structs import replace as replace

# By itself msgspec's UNSET is pickled by its name alone: pickle then looks for it in every module
# that happens to be loaded, whatever else that sets off there.
copyreg.pickle(UnsetType, lambda _: (UnsetType, ()))

LARGEST = sys.float_info.max

Finite = Annotated[float, Meta(ge=0, le=LARGEST)]
Positive = Annotated[float, Meta(gt=0, le=LARGEST)]
Extended = Annotated[float, Meta(ge=0)]
"""Nonnegative, or infinite: no bound."""
Signed = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
MaybeFinite = Finite | UnsetType
MaybeSigned = Signed | UnsetType
MaybeExtended = Extended | UnsetType
Count = Annotated[int, Meta(ge=1)]
Word = Annotated[str, Meta(min_length=1, max_length=400)]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields, read by attribute or, like a mapping's, by name; absent ones are not listed."""

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value, or the default where it is absent."""
        value = getattr(self, name) if name in self.__struct_fields__ else UNSET
        return default if value is UNSET else value

    def __getitem__(self, name: str) -> Any:
        value = self.get(name, UNSET)
        if value is UNSET:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name, value in asdict(self).items() if value is not UNSET)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def keys(self) -> tuple[str, ...]:
        """The names of the fields that are there."""
        return tuple(self)

    def items(self) -> tuple[tuple[str, Any], ...]:
        """Their names and values."""
        return tuple((name, self[name]) for name in self)
