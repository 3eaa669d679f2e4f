"""A comparison in a folder: its split, every model and its ledger, from which an interrupted one goes on.

    comparison.npz            the options, and the sha256 of the data
    seed0/split.npz           training and held-out data, with their rows in the data set
    seed0/vae.npz             a fitted model, which `teachvae.load` reads; while it trains, its checkpoint
    seed0/vae held out.npz    its ledger of a part
"""

from dataclasses import asdict
import os
from pathlib import Path

from ..arrays import store
from ..evaluation.gaps import Gaps
from ..routes import persistence
from ..routes.checkpoint import mark_of_data


class FolderError(ValueError):
    """A folder cannot take this comparison, or holds another; the message says which and what to do."""


class Nowhere:
    """No folder: nothing is kept, and nothing found."""

    def begin(self, dataset, options):
        """Nothing is to be made ready."""

    def keep_split(self, run):
        """The split is not kept."""

    def checkpoint(self, run, entry):
        """No file for the training."""

    def model(self, run, entry):
        """No model was kept."""

    def keep_model(self, run, entry, estimator, **beside):
        """The model is not kept."""

    def ledger(self, run, entry, part):
        """No ledger was kept."""

    def keep_ledger(self, run, entry, part, **found):
        """The ledger is not kept."""


class Folder:
    """The folder of a comparison.

    path    made where it is not there
    resume  whether what it holds is gone on with; without, it must be empty

    `begin` raises FolderError where the folder cannot take the comparison; all methods raise OSError where it
    cannot be read or written, and FileError, a ValueError, where a file in it is damaged.
    """

    def __init__(self, path, resume=False):
        self.path, self.resume = Path(path), resume

    def begin(self, dataset, options):
        """Make the folder ready for a comparison of `compare.Options` on a data set."""
        known = self.path / "comparison.npz"
        asked = {**asdict(options), "the data": mark_of_data(dataset.x)[0]}
        if known.exists() and self.resume:
            there = store.read(known)["asked"]
            differences = [
                f"{name} is {asked.get(name)!r} here, and {there.get(name)!r} there"
                for name in {**asked, **there} if asked.get(name) != there.get(name)
            ]
            if differences:
                raise FolderError(
                    f"{self.path} holds another comparison: {'; '.join(differences)}. Give the same options, "
                    "or another folder"
                )
            return
        if self.path.exists() and any(not name.endswith(".part") for name in os.listdir(self.path)):
            hint = "--resume goes on with it" if known.exists() else "it is none of a comparison"
            raise FolderError(f"{self.path} is not empty, and {hint}: else give another folder")
        self.path.mkdir(parents=True, exist_ok=True)
        store.write(known, {"asked": asked})

    def keep_split(self, run):
        """Write the training and held-out data of a `compare.Run`, and make room for its models."""
        file = self._file(run, "split")
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            store.write(file, {
                f"{name}_{what}": value
                for name, part in (("train", run.train), ("held_out", run.held_out))
                for what, value in (("x", part.x), ("rows", part.row_names), ("labels", part.labels))
            })

    def checkpoint(self, run, entry):
        """The file for the training of the model of a `models.Entry`."""
        return self._file(run, entry.key)

    def model(self, run, entry):
        """(estimator, what was kept beside it) where an entry's model was trained to its end, or None."""
        file = self._file(run, entry.key)
        if not file.exists():
            return None
        values = store.read(file, persistence.PARTS)
        return (persistence.restored(file, values), values["trained"]) if "trained" in values else None

    def keep_model(self, run, entry, estimator, **beside):
        """Write a model that was trained to its end, for its checkpoint, and named values beside it."""
        persistence.save(estimator, self._file(run, entry.key), trained=beside)

    def ledger(self, run, entry, part):
        """What was kept of the ledger of a part, a dict, or None."""
        file = self._file(run, f"{entry.key} {part}")
        return store.read(file, {Gaps}) if file.exists() else None

    def keep_ledger(self, run, entry, part, **found):
        """Write what was found of a part."""
        store.write(self._file(run, f"{entry.key} {part}"), found, {Gaps})

    def _file(self, run, name):
        return self.path / f"seed{run.seed}" / f"{name}.npz"
