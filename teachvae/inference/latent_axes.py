"""The axes of z that a linear VAE is searched along, so that no rotation of z slows the search down.

Equations (6.x) are in derivations/equations.md.
"""

from ..arrays.backend import namespace
from ..posteriors import DiagonalGaussian
from . import linear_gaussian


class LatentAxes:
    """A linear-Gaussian model with a diagonal q and a linear recognition network, z turned to where its Q is
    least (2.28) wherever the search is                                                            (6.10).

    p(x) and the means of q know no rotation; the widths of q do, and Q changes slowly with it. So the search
    is for params of which `fold` makes the model's, by the rotation that fits their own W and Ψ, and Q is the
    same for all rotations of what is searched for.

    params = {"theta": θ, "recognition": v}, v of one Linear layer to φ = [m | log s]
    """

    def __init__(self, model):
        self.model = model

    @staticmethod
    def apply(model, masked):
        """Whether they serve: for a diagonal q and complete data, whose posteriors share one covariance."""
        return type(model.posterior) is DiagonalGaussian and not masked

    def fold(self, params):
        """The model's params: W and m turned by the rotation of their own W and Ψ."""
        return self._turned(params, self._rotation(params))

    def turned(self, objective):
        """The objective of the model's params as one of those that are searched for."""
        def searched(params, rows):
            R = self._rotation(params)
            value, grads = objective(self._turned(params, R), rows)
            return value, self._turned(grads, R.T)                 # by no rotation does Q change  (6.10)

        return searched

    def _rotation(self, params):
        W, _, psi = linear_gaussian.parameters(self.model, params["theta"])
        return linear_gaussian.rotation(W, psi)

    def _turned(self, tree, R):
        """A tree shaped like params with R W, b as it is, and m Rᵀ."""
        K, xp = self.model.n_latent, namespace(R)
        layer, network = tree["theta"]["decoder"], tree["recognition"]
        inside = isinstance(layer, list), isinstance(network, list)
        layer, network = (part[0] if is_in else part for part, is_in in zip((layer, network), inside))
        layer = {"W": R @ layer["W"], "b": layer["b"]}
        m, s = network["W"][:, :K] @ R.T, network["W"][:, K:]
        b = xp.concat([R @ network["b"][:K], network["b"][K:]], axis=0)
        network = {"W": xp.concat([m, s], axis=1), "b": b}
        layer, network = ([part] if is_in else part for part, is_in in zip((layer, network), inside))
        return {"theta": {**tree["theta"], "decoder": layer}, "recognition": network}
