"""Names of data columns and of data cases, as messages show them."""


def column_names(names, n_visible):
    """The names of the columns: their own, or their numbers where `names` is None."""
    return names if names is not None else list(range(n_visible))


def shorten(names, most=8):
    """The first few of `names`, joined for a message."""
    text = ", ".join(str(name) for name in names[:most])
    return text if len(names) <= most else f"{text}, … ({len(names)} in all)"


class AboutRows:
    """An error or a warning about data cases: of its text, {rows} is replaced by their places in X.

    Whoever knows other names for them, a split that has shuffled the lines of a file, asks for `named`.
    """

    def __init__(self, text, places):
        super().__init__(text.replace("{rows}", shorten(places)))
        self.text, self.places = text, places

    def __reduce__(self):
        return type(self), (self.text, self.places)

    def named(self, rows):
        """The text with names from `rows` (N,), one for each data case of X, instead of places."""
        return self.text.replace("{rows}", shorten([rows[n] for n in self.places]))


class BadRow(AboutRows, ValueError):
    """A data case is not what it must be."""
