"""Where an equation's number leads: the card in derivations/ that states it, proves it and works it out.

The table equations.json is written from the chapters by `python -m derivations.book`.
"""

import functools
from html import escape
from importlib.resources import files
import json
import re


@functools.cache
def table():
    """{number: {"title": what its card is headed with, "chapter": the file in derivations/}}, "1.5", …"""
    return json.loads(files(__package__).joinpath("equations.json").read_text(encoding="utf-8"))


def address(number, folder="../derivations"):
    """The address of an equation's card, as seen from a folder beside derivations, such as notebooks.

    Raises KeyError for a number that no chapter has.
    """
    return f"{folder}/{table()[number]['chapter']}#eq-{number.replace('.', '-')}"


def linked(text, folder="../derivations"):
    """A text with numbers of equations in it, such as "1.10, 3.1", as HTML: each leads to its card, and shows
    what it is about when it is pointed at; what is no number of an equation stays as it is.
    """
    def link(found):
        number = found[0]
        if number not in table():
            return escape(number)
        return f'<a href="{address(number, folder)}" title="{escape(table()[number]["title"])}">{number}</a>'

    return re.sub(r"(?<![\d.])\d{1,2}\.\d{1,2}(?![\d.])", link, escape(text))
