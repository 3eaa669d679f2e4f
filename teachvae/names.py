"""Names of data columns and of data cases, as messages show them."""


def column_names(names, n_visible):
    """The names of the columns: their own, or their numbers where `names` is None."""
    return names if names is not None else list(range(n_visible))


def shorten(names, most=8):
    """The first few of `names`, joined for a message."""
    text = ", ".join(str(name) for name in names[:most])
    return text if len(names) <= most else f"{text}, … ({len(names)} in all)"


def about_rows(kind, text, places):
    """An error or a warning of the class `kind` about data cases: {rows} in its text becomes their places.

    Whoever knows other names for them, a split that has shuffled the lines of a file, asks `named`.
    """
    said = kind(text.replace("{rows}", shorten(places)))
    said.text, said.places = text, places
    return said


def named(said, rows):
    """The words of an error or a warning; data cases have names from `rows` (N,) instead of places."""
    if not hasattr(said, "places"):
        return str(said)
    return said.text.replace("{rows}", shorten([rows[n] for n in said.places]))
