"""The sums of derivations/ come out: both sides of every = between numbers in a formula, in examples, reasons
and solutions alike, are equal as far as the figures are written. No code of the package takes part.
"""

import math
import re
import warnings

import pytest
import test_book

NAMES = {"log": math.log, "exp": math.exp, "tanh": math.tanh, "sqrt": math.sqrt, "E": math.e}
GROUP = r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
RELATION = re.compile(r"(=|\\approx|\\leq|\\geq|\\lt|\\gt)(?![a-zA-Z])")
BETWEEN = re.compile(r"\\cr|\\q?quad|\\(?:begin|end)\{aligned\}|,? ?\\enspace|;|\\(?:text|mathrm)\{[^}]*\}")
DIFFERS = {
    "=": lambda gap, doubt: abs(gap) > doubt, r"\approx": lambda gap, doubt: abs(gap) > doubt,
    r"\leq": lambda gap, doubt: gap > doubt, r"\lt": lambda gap, doubt: gap > doubt,
    r"\geq": lambda gap, doubt: gap < -doubt, r"\gt": lambda gap, doubt: gap < -doubt,
}


def as_python(side):
    """One side of an equation as an expression of Python, or None where it is not of numbers alone."""
    side = re.sub(r"\\(?:left|right|thinspace)(?![a-zA-Z])|&", " ", side)
    side = re.sub(r"\\(?:cdot|times)(?![a-zA-Z])", "*", side)
    for _ in range(4):                                             # a fraction in a fraction in …
        side = re.sub(rf"\\frac{GROUP}{GROUP}", r"((\1)/(\2))", side)
        side = re.sub(rf"\\sqrt{GROUP}", r"sqrt(\1)", side)
        side = re.sub(rf"\^{GROUP}", r"**(\1)", side)
    side = re.sub(r"\^\s*(\d)", r"**\1", side)
    side = re.sub(r"\\(log|exp)\s*(\d+(?:\.\d+)?)(?!\s*\*\*)", r"\1(\2)", side)
    side = re.sub(r"\\(log|exp|tanh)\s*\(", r"\1(", side)
    side = re.sub(r"(?<![a-zA-Z\\])e\s*\*\*", "E**", side).strip(" \n.,")
    left = re.sub(r"(?:log|exp|tanh|sqrt)\(|E\*\*", "", side)
    return " ".join(side.split()) if re.fullmatch(r"[\d.+*/() \n-]*\d[\d.+*/() \n-]*", left) else None


def value(side):
    """(value, how far it may be off as its figures are rounded) of one side, or None. In a sum, a figure of
    one or two places is exact: 0.5 is a half.
    """
    def computed(expression):
        return float(eval(expression, {"__builtins__": {}}, NAMES))

    expression = as_python(side)
    if expression is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)         # 2 (3): a product, which Python calls
            middle, doubt = computed(expression), 0.0
            rounded = r"\d+\.(\d{3,})" if re.search(r"[*/(]|\d [+-]", expression) else r"\d+\.(\d+)"
            for figure in re.finditer(rounded, expression):
                more = f"({figure[0]}+{0.5 * 10.0 ** -len(figure[1])})"
                moved = expression[:figure.start()] + more + expression[figure.end():]
                doubt += abs(computed(moved) - middle)
    except (SyntaxError, TypeError, ArithmeticError, ValueError):
        return None
    return middle, doubt


def compared(formula):
    """[(text, whether it holds)] of every relation of a formula that has numbers on both sides."""
    found = []
    for part in BETWEEN.split(formula):
        sides = RELATION.split(part)
        for left, relation, right in zip(sides[::2], sides[1::2], sides[2::2]):
            a, b = value(left), value(right)
            if a and b:
                doubt = 1.01 * (a[1] + b[1]) + 1e-9 + (0.02 * abs(b[0]) if relation == r"\approx" else 0)
                found.append((left + relation + right, not DIFFERS[relation](a[0] - b[0], doubt)))
    return found


@pytest.mark.parametrize("name", test_book.PAGES)
def test_both_sides_are_equal(name):
    results = [result for f in test_book.formulas(test_book.PAGES[name]) for result in compared(f)]
    assert [text for text, holds in results if not holds] == []


def test_so_many_sums_are_compared():
    pages = test_book.PAGES.values()
    assert sum(len(compared(f)) for page in pages for f in test_book.formulas(page)) > 300


@pytest.mark.parametrize(
    "formula", ["2 + 2 = 5", r"m = 1.5 \cdot 2 = 2.9", r"\frac{1}{1 + \frac{1}{2}} = 0.66", r"-\log 4 = 1.4",
                r"3^2 \leq 8", r"e^{0.5} = 1.6497", r"1.2 \cdot 10^{-3} = 0.012", r"\sqrt{2} \approx 1.5",
                r"\begin{aligned} a &= 1 \cr b &= 2 \cdot 3 = 7 \end{aligned}", r"0.5 - 1 = 0.5"]
)
def test_a_false_sum_is_found(formula):
    assert not all(holds for _, holds in compared(formula))


@pytest.mark.parametrize(
    "formula", [r"\frac{2}{3} = 0.667", r"0.25 \cdot 1 + 0.75 \cdot 4 = 3.25 = \frac{13}{4}",
                r"e^8 \approx 3000", r"-\log 4 = -1.386", r"3^2 \geq 8.9", r"\sqrt{\frac{1}{4}} = 0.5",
                r"\left( 1 - 3 \right)^2 = 4"]
)
def test_a_true_one_is_not(formula):
    assert compared(formula) and all(holds for _, holds in compared(formula))


def test_what_is_not_of_numbers_alone_is_left():
    assert compared(r"x = 2, \quad 2 (3) = 7, \quad 1/0 = 2, \quad \log(0) = 1") == []
