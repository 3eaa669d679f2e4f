"""The matrix of wrong answers, printed: a row an answer, a column a mistake that there are words for."""

from teachvae.course import grade
from teachvae.course.exercises.table import EXERCISES

from . import RIGHT, WRONG


def main():
    """Print it."""
    for name, bank in WRONG.items():
        print(f"{name} {EXERCISES[name].asks}: {EXERCISES[name].task}")
        for words, answer in bank.items():
            said = grade.check(name, answer, seed=0)
            row = "".join("#" if other in str(said) else "." for other in bank)
            print(f"    {row:8} {said.error:8.1e}  {words}")
    wrong, right = (sum(len(bank) for bank in banks.values()) for banks in (WRONG, RIGHT))
    print(f"{wrong} wrong and {right} right answers to {len(WRONG)} exercises")


if __name__ == "__main__":
    main()
