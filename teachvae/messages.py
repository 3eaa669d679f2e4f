"""Words for messages: short lists of names, data cases by name, aligned tables."""



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


def align(cells):
    """Rows of strings as lines of aligned columns."""
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
