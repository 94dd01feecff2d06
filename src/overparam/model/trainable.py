"""Which parameters move: names, positions and masks, for a perceptron and for any function.

A frozen array keeps its value, and everything that is derived from the parameters sees it as a
constant: with P the projection onto the parameters that move, the Jacobian is J P, the gradient
P J* g, the tangent kernel J P J*. Statements and proofs: docs/trainable.md.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from overparam.errors import InputError

Trainable = Any
"""What a user may say: a name, a position, a slice, several of these, or a pytree of booleans."""

Trained = tuple[tuple[bool, bool], ...]
"""For each layer of a perceptron whether its weights move, and whether its biases do."""

KINDS = "weights", "biases"


def is_mask(trainable: Trainable) -> bool:
    """Whether these are booleans, or arrays of booleans, and not names."""
    leaves = jax.tree.leaves(trainable)
    return bool(leaves) and all(_is_boolean(leaf) for leaf in leaves)


def _is_boolean(leaf: object) -> bool:
    return isinstance(leaf, bool) or getattr(leaf, "dtype", None) == np.bool_


def trained_arrays(trainable: Trainable, layers: int) -> Trained:
    """The weights and biases that move, of a perceptron with so many layers.

    Args:
        trainable: "all", "last layer", "first layer"; "weights", "biases" or "layers", of one
            layer ("weights.0", "layers.-1") or of a slice of them ("layers.1:"); a layer's number,
            or a slice; several of these in a list, or in a string with commas; or booleans in the
            structure of the parameters. Layers are numbered as in the parameters, from 0.
        layers: D.

    Raises:
        InputError: A name is unknown, the booleans have another structure or freeze a part of an
            array, or nothing is left that moves.
    """
    moves = _of_mask(trainable, layers) if is_mask(trainable) else _of_names(trainable, layers)
    if not any(any(pair) for pair in moves):
        raise InputError(
            f'trainable={trainable!r} leaves nothing to train: name a layer or more, "last layer" '
            "for example"
        )
    return moves


def names_of(trained: Trained) -> tuple[str, ...]:
    """The arrays that move, by name: weights.0, biases.0, weights.1, ..."""
    return tuple(
        f"{kind}.{layer}"
        for layer, pair in enumerate(trained)
        for kind, moves in zip(KINDS, pair, strict=True)
        if moves
    )


def _of_mask(mask: Any, layers: int) -> Trained:
    try:
        weights, biases = mask
        pairs = list(zip(weights, biases, strict=True))
        known = len(pairs) == layers and all(map(_is_boolean, (*weights, *biases)))
    except (TypeError, ValueError):
        known = False
    if not known:
        raise InputError(
            "trainable must have the structure of the parameters: a pair (weights, biases) with "
            f"{layers} booleans each, one for every layer"
        )
    parts = [np.asarray(leaf) for pair in pairs for leaf in pair]
    if any(part.any() != part.all() for part in parts):
        raise InputError(
            "trainable freezes a part of an array, but an MLP has whole arrays that move only: "
            "give it to the Problem, Problem(model, ..., trainable=...)"
        )
    return tuple((bool(np.all(w)), bool(np.all(b))) for w, b in pairs)


def _items(trainable: Trainable) -> list[Any]:
    """What is named, one by one."""
    if isinstance(trainable, str):
        return [name.strip() for name in trainable.split(",")]
    if isinstance(trainable, Sequence):
        return [item for each in trainable for item in _items(each)]
    return [trainable]


def _of_names(trainable: Trainable, layers: int) -> Trained:
    moves = np.zeros((layers, 2), dtype=bool)
    for item in _items(trainable):
        kind, at = _place(item)
        try:
            rows = np.arange(layers)[at]
        except (IndexError, TypeError):
            raise _unknown(item, layers) from None
        if kind is None:
            raise _unknown(item, layers)
        moves[rows, kind] = True
    return tuple((bool(w), bool(b)) for w, b in moves)


def _place(item: object) -> tuple[Any, Any]:
    """Which column of a table of weights and biases, and which rows; None if unknown."""
    if isinstance(item, slice) or (isinstance(item, Integral) and not isinstance(item, bool)):
        return slice(None), item
    if not isinstance(item, str):
        return None, 0
    short = {"all": "layers", "last layer": "layers.-1", "first layer": "layers.0"}
    kind, _, index = short.get(item, item).partition(".")
    column = {"layers": slice(None), "weights": 0, "biases": 1}.get(kind)
    try:
        ends = [int(part) if part.strip() else None for part in index.split(":")]
    except ValueError:
        return None, 0
    if len(ends) == 1:
        return column, slice(None) if ends[0] is None else ends[0]
    return column, slice(*ends)


def _unknown(item: object, layers: int) -> InputError:
    return InputError(
        f"trainable names {item!r}, which this network does not have: say "
        f'"last layer", "layers.1:", "weights.0" or "biases", with layers 0 to {layers - 1}'
    )


@dataclass(frozen=True)
class PartlyTrained:
    """A function f(params, x) of which some parameters are constants; equal for equal parts.

    Args:
        function: f.
        trainable: Names, as in the path to an array ("dense", "dense.kernel"), or booleans.
        kinds: What to call the parameters' first two parts, in place of 0 and 1.
    """

    function: Callable[[Any, Any], Any]
    trainable: "tuple[str, ...] | Booleans"
    kinds: tuple[str, ...] = ()

    def __call__(self, params: Any, x: Any) -> Any:
        """F, with no derivative in what is frozen."""
        held = jax.tree.map(_held, params, self.mask(params))
        return self.function(held, x)

    def mask(self, params: Any) -> Any:
        """A boolean, or an array of them, for every array.

        Raises:
            InputError: Names or structure are not those of the parameters, or nothing moves.
        """
        if isinstance(self.trainable, Booleans):
            return _fitting(self.trainable.tree, params)
        known = _paths(params)
        for name in self.trainable:
            if not any(_within(path, name) for path in known):
                raise InputError(
                    f"trainable names {name!r}, which is not among the parameters: "
                    f"{', '.join(known)[:200]}"
                )
        moves = [any(_within(path, name) for name in self.trainable) for path in known]
        return jax.tree.unflatten(jax.tree.structure(params), moves)

    def names(self, params: Any) -> tuple[str, ...]:
        """The arrays that move, by name, and how many entries of those that move in part."""
        found = []
        masks = jax.tree.leaves(self.mask(params))
        for path, leaf, mask in zip(_paths(params), jax.tree.leaves(params), masks, strict=True):
            if self.kinds:
                first, _, rest = path.partition(".")
                path = f"{self.kinds[int(first)]}.{rest}"
            moves, size = int(np.sum(np.broadcast_to(mask, np.shape(leaf)))), int(np.size(leaf))
            part = "" if moves == size else f" ({moves} of {size} entries)"
            found += [f"{path}{part}"[:400]] if moves else []
        return tuple(found)

    def fingerprint(self) -> str:
        """What tells these parts from others."""
        if not isinstance(self.trainable, Booleans):
            return ", ".join(self.trainable)
        leaves, tree = jax.tree.flatten(self.trainable.tree)
        digest = hashlib.sha256(str(tree).encode())
        for leaf in map(np.asarray, leaves):
            digest.update(repr(leaf.shape).encode() + np.packbits(leaf).tobytes())
        return digest.hexdigest()

    def moving(self, params: Any) -> Any:
        """Zeros in place of what is frozen, in a pytree like the parameters; traceable."""
        return jax.tree.map(lambda leaf, mask: leaf * mask, params, self.mask(params))


@dataclass(frozen=True, eq=False)
class Booleans:
    """A mask, equal to itself alone: arrays have no hash."""

    tree: Any


def freeze(function: Callable[[Any, Any], Any], trainable: Trainable) -> Any:
    """A function with frozen parameters.

    Raises:
        InputError: Nothing is named, or something that is no name.
    """
    if is_mask(trainable):
        if not any(np.any(leaf) for leaf in jax.tree.leaves(trainable)):
            raise InputError("trainable leaves nothing to train: set one boolean or more to True")
        return PartlyTrained(function, Booleans(trainable))
    names = tuple(_items(trainable))
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            f"trainable={trainable!r} names no parameters: give names such as 'dense.kernel', or a "
            "pytree of booleans"
        )
    return function if "all" in names else PartlyTrained(function, names)


def _paths(params: Any) -> list[str]:
    """The names of all arrays, as in params["dense"]["kernel"]: dense.kernel."""
    keyed, _ = jax.tree.flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator=".") or "params" for path, _ in keyed]


def _within(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _fitting(mask: Any, params: Any) -> Any:
    trees: list[Any] = [jax.tree.structure(mask), jax.tree.structure(params)]
    same = trees[0] == trees[1]
    pairs = zip(jax.tree.leaves(mask), jax.tree.leaves(params), strict=False)
    if not same or not all(np.shape(m) in ((), np.shape(p)) for m, p in pairs):
        raise InputError(
            "trainable must have the structure of the parameters: one boolean, or an array of "
            "booleans of the same shape, for every array"
        )
    return mask


def _held(leaf: Any, mask: Any) -> Any:
    if isinstance(mask, bool | np.bool_):
        return leaf if mask else jax.lax.stop_gradient(leaf)
    return jnp.where(mask, leaf, jax.lax.stop_gradient(leaf))
