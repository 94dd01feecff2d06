"""Strictness shared by all tests: types and shapes checked at run time, rank promotion raises."""

from jaxtyping import install_import_hook

install_import_hook("overparam", "beartype.beartype")

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
