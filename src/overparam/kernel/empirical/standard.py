"""The tangent kernel of the parameters that other libraries have: z = W h + b in each layer.

Here z = c_l W' h + s_b b' with W = c_l W' and b = s_b b' (in the last layer both times the output's
scale c). The functions are the same, the derivatives are not: dz/dW = h where dz/dW' = c_l h. So
the kernel of (W, b) is that of the NTK form with 1 in place of c_l and of s_b.
"""

import dataclasses

from overparam.model.mlp import MLP, Scale


class StandardParameters(MLP):
    """A network in the NTK form whose kernel is that of its standard parameters (W, b)."""

    @property
    def trained_factors(self) -> tuple[tuple[Scale, Scale], ...]:
        """What multiplies h and 1 in the derivatives: 1 for what moves; c is undone at the end."""
        last = self.layers - 1
        ones = (1.0 if layer < last else 1 / self.output_scale for layer in range(self.layers))
        return tuple(
            (one * (factor != 0), one * (shift != 0))
            for one, (factor, shift) in zip(ones, super().trained_factors, strict=True)
        )


def standard_parameters(model: MLP) -> StandardParameters:
    """The same network, differentiated in its standard parameters."""
    given = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.init}
    return StandardParameters(**given)
