"""Answers to the exercises of notebook 02."""

import numpy as np


def flat_prior(x, W, b, psi):
    precision = W @ np.diag(1 / psi) @ W.T
    cov = np.linalg.inv(precision)
    return {"mean": (x - b) @ np.diag(1 / psi) @ W.T @ cov, "cov": cov}


WRONG = {"02-1": {"lacks the 1 of the prior's precision": flat_prior}}


def by_the_joint(x, W, b, psi):
    C = W.T @ W + np.diag(psi)
    return {"mean": (x - b) @ np.linalg.solve(C, W.T), "cov": np.eye(len(W)) - W @ np.linalg.solve(C, W.T)}


def by_einsum(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + np.einsum("kd,jd->kj", W / psi, W))
    return {"cov": cov, "mean": np.einsum("nd,kd,kj->nj", x - b, W / psi, cov)}


RIGHT = {"02-1": [by_the_joint, by_einsum]}
