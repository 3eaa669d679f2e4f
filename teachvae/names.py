"""Names of data columns, as messages show them."""


def column_names(names, n_visible):
    """The names of the columns: their own, or their numbers where `names` is None."""
    return names if names is not None else list(range(n_visible))


def shorten(names, most=8):
    """The first few of `names`, joined for a message."""
    text = ", ".join(str(name) for name in names[:most])
    return text if len(names) <= most else f"{text}, … ({len(names)} in all)"
