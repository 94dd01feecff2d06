"""Dictionaries that do not change: a result that others hold must stay what it was."""

from collections.abc import Mapping
from typing import Any, NoReturn


class Frozen(dict):
    """A dictionary that cannot be changed, so it has a hash; ``dict(...)`` makes one that can."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("this dictionary does not change: dict(...) makes a copy that can")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple:
        return Frozen, (dict(self),)


def frozen(value: Any) -> Any:
    """The same with dictionaries and lists, however deep, in a form that does not change."""
    if isinstance(value, Mapping):
        return Frozen({key: frozen(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    return value
