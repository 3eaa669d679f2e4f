"""Data cases with missing entries: the data and, beside them, which of their entries were observed."""

from dataclasses import dataclass

from .backend import namespace


@dataclass(frozen=True)
class Observed:
    """Data x (N, V) of which not all was observed: what takes data cases takes these as well. A plain array
    is complete data.

    mask  (N, V), 1 where x was observed, else 0: any finite number stands there. No likelihood depends on it;
          a recognition network sees it, beside the mask
    """

    x: object
    mask: object

    @property
    def shape(self):
        """That of x, (N, V)."""
        return self.x.shape

    @property
    def dtype(self):
        """That of x."""
        return self.x.dtype

    @property
    def device(self):
        """That of x."""
        return self.x.device

    def __array_namespace__(self, api_version=None):
        return namespace(self.x)

    def __getitem__(self, rows):
        return Observed(self.x[rows], self.mask[rows])

    def each(self, function):
        """The `Observed` of function(x) and function(mask)."""
        return Observed(function(self.x), function(self.mask))


def seen(x):
    """x (N, V) and its mask (N, V), None for a plain array, of which all was observed."""
    return (x.x, x.mask) if isinstance(x, Observed) else (x, None)


def network_input(x):
    """What a recognition network is given of data cases x (N, V): x, or of an `Observed` [x | mask] (N, 2V),
    so that it knows which entries it may trust.
    """
    x, mask = seen(x)
    return x if mask is None else namespace(x).concat([x, mask], axis=1)
