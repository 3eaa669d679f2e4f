"""A checker of gradients, values and minima that names the mistake; `package` checks all that is here."""

from .check import check, draw_until_smooth
from .minima import check_minimum
from .part import part
from .report import Report, Row
from .values import check_value

__all__ = ["Report", "Row", "check", "check_minimum", "check_value", "draw_until_smooth", "part"]
