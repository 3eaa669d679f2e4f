"""Words for messages and results: short lists of names, data cases by name, warnings, aligned tables."""

from html import escape
import sys
import warnings

OR_DOUBLE = ", or as float64 to a model with dtype='float64'"     # how a refusal of float32 ends


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


def warn(said, kind=UserWarning):
    """Warn at the line outside this package that called into it, however many layers lie between.

    said  a text, then `kind` is the class of the warning; or a warning, such as `about_rows` makes
    """
    frame = sys._getframe(1)
    while _ours(frame) and frame.f_back is not None:
        frame = frame.f_back
    warnings.warn_explicit(
        said,
        kind,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _ours(frame):
    # Between a context manager of the package and who enters it stands contextlib.
    return frame.f_globals.get("__name__", "").partition(".")[0] in (__package__, "contextlib")


def align(rows, left=None, heads=0):
    """Rows of strings as lines of aligned columns.

    left   how many columns stand to the left of their width, the others to the right; None: all
    heads  how many rows are headings: a rule is drawn below them, where there are any
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    left = len(widths) if left is None else left
    lines = []
    for row in rows:
        padded = [
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(padded).rstrip())
    if heads:
        lines.insert(heads, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def fixed(number, digits=4):
    """A number with so many decimals; one that rounds to 0 has no sign."""
    text = f"{number:.{digits}f}"
    return text[1:] if text.startswith("-") and text.strip("-0.") == "" else text


def over_cases(title, rows, error=None):
    """Lines of an aligned table: the mean, the least and the largest of numbers that N data cases have.

    title  what stands above the names
    rows   (name, values (N,) on the host, their errors or None); numbers that there are not become "–"
    error  the heading of a column with the mean of each row's errors, where rows have some
    """
    table = [[title, "mean", *([] if error is None else [error]), "least", "largest"]]
    for name, values, errors in rows:
        numbers = (values.mean(), values.min(), values.max()) if len(values) else ()
        mean, *ends = [fixed(number) for number in numbers] or "–––"
        stated = "–" if errors is None or not len(errors) else f"{errors.mean():.1g}"
        table.append([name, mean, *([] if error is None else [stated]), *ends])
    return align(table, left=1, heads=1)


def counted(n, what="data case"):
    """A number and its noun, as in "1 data case" and "5 data cases"."""
    return f"{n} {what}" + ("" if n == 1 else "s")


def on_a_page(said):
    """The text of a result as HTML, for a notebook: its `_repr_html_`."""
    return f"<pre>{escape(str(said))}</pre>"
