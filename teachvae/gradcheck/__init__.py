"""A gradient checker that names the mistake; `package` runs it over everything that is here."""

from .check import Report, Row, check, draw_until_smooth
from .part import part

__all__ = ["Report", "Row", "check", "draw_until_smooth", "part"]
