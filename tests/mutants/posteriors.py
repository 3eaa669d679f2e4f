"""Faults of the families of q and of the nodes η."""

from .planting import faults_in

diagonal = faults_in("posteriors/diagonal.py", "test_components.py", "test_gradients.py")
full = faults_in("posteriors/full.py", "test_components.py", "test_gradients.py")
planar = faults_in("posteriors/planar.py", "test_flow.py")
nodes = faults_in("posteriors/nodes.py", "test_components.py")

MUTANTS = [
    diagonal(
        "the variance stands where the standard deviation belongs, in sample and gradient alike (B3, M1)",
        ("DiagonalGaussian.sample", "xp.exp(log_s)", "xp.exp(2 * log_s)"),
        ("DiagonalGaussian.sample_backward", "xp.sum(dz * eta, axis=0) * s",
         "2 * xp.sum(dz * eta, axis=0) * s"),
    ),
    diagonal(
        "half the standard deviation is sampled with, in sample and gradient alike (B17)",
        ("DiagonalGaussian.sample", "m + eta * s", "m + 0.5 * eta * s"),
        ("DiagonalGaussian.sample_backward", "xp.sum(dz * eta, axis=0) * s",
         "0.5 * xp.sum(dz * eta, axis=0) * s"),
    ),
    diagonal(
        "the noise is a hundredth of what q says, in sample and gradient alike (B10)",
        ("DiagonalGaussian.sample", "m + eta * s", "m + 0.01 * eta * s"),
        ("DiagonalGaussian.sample_backward", "xp.sum(dz * eta, axis=0) * s",
         "0.01 * xp.sum(dz * eta, axis=0) * s"),
    ),
    diagonal(
        "the noise that is stored is not that of the sample (B1, M9)",
        ("DiagonalGaussian.sample", "(s, eta)", "(s, eta[::-1, ...])"),
        first=("test_gradients.py",),
    ),
    diagonal(
        "the sample's log s forgets the chain rule",
        ("DiagonalGaussian.sample_backward", "xp.sum(dz * eta, axis=0) * s", "xp.sum(dz * eta, axis=0)"),
        first=("test_gradients.py",),
    ),
    diagonal(
        "the gradients of m and log s are exchanged",
        ("DiagonalGaussian.sample_backward", "[dm, dlog_s]", "[dlog_s, dm]"),
        first=("test_gradients.py",),
    ),
    diagonal(
        "the KL has +1 for −1",
        ("DiagonalGaussian.kl", "m * m + s2 - 1 - 2 * log_s", "m * m + s2 + 1 - 2 * log_s"),
    ),
    diagonal(
        "the KL has log s where log s² belongs",
        ("DiagonalGaussian.kl", "m * m + s2 - 1 - 2 * log_s", "m * m + s2 - 1 - log_s"),
    ),
    diagonal(
        "the KL is a mean over the latent variables, in value and gradient alike (M2)",
        ("DiagonalGaussian.kl", "0.5 * sum_last(m * m + s2 - 1 - 2 * log_s)",
         "0.5 * sum_last(m * m + s2 - 1 - 2 * log_s) / self.n_latent"),
        ("DiagonalGaussian.kl_backward", "dkl[:, None] * m", "dkl[:, None] * m / self.n_latent"),
        ("DiagonalGaussian.kl_backward", "dkl[:, None] * (s2 - 1)",
         "dkl[:, None] * (s2 - 1) / self.n_latent"),
    ),
    diagonal(
        "the KL's gradient in log s forgets its −1",
        ("DiagonalGaussian.kl_backward", "dkl[:, None] * (s2 - 1)", "dkl[:, None] * s2"),
        first=("test_gradients.py",),
    ),
    diagonal(
        "the KL pushes m away from 0",
        ("DiagonalGaussian.kl_backward", "dkl[:, None] * m", "-dkl[:, None] * m"),
        first=("test_gradients.py",),
    ),
    diagonal(
        "log q's constant is that of one latent variable",
        ("DiagonalGaussian.log_prob", "0.5 * self.n_latent * LOG_2PI", "0.5 * LOG_2PI"),
    ),
    diagonal(
        "log q divides by the variance",
        ("DiagonalGaussian.log_prob", "(z - m) / s", "(z - m) / (s * s)"),
    ),
    diagonal(
        "log q's gradient in log s forgets the normaliser",
        ("DiagonalGaussian.log_prob_backward", "u * u - 1", "u * u"),
        first=("test_gradients.py",),
    ),
    diagonal(
        "log q's gradient in m has the sign of that in z",
        ("DiagonalGaussian.log_prob_backward", "-xp.sum(dz, axis=0)", "xp.sum(dz, axis=0)"),
        first=("test_gradients.py",),
    ),
    diagonal(
        "the covariance is of standard deviations",
        ("DiagonalGaussian.covariance", "xp.exp(2 * self.unpack(phi)[1])", "xp.exp(self.unpack(phi)[1])"),
    ),
    diagonal(
        "the closest diagonal q takes the posterior's marginal variances",
        ("DiagonalGaussian.closest", "xp.sum(precision * identity(self.n_latent, like=precision), axis=-1)",
         "1 / xp.sum(xp.linalg.inv(precision) * identity(self.n_latent, like=precision), axis=-1)"),
    ),
    diagonal(
        "the first step of an E-step is by the Fisher information, not by its inverse",
        ("DiagonalGaussian.natural_scale", "xp.zeros_like(s2) + 0.5", "xp.zeros_like(s2) + 2.0"),
    ),
    full(
        "L is transposed in the sample",
        ("FullGaussian.sample", "L @ eta_T", "xp.permute_dims(L, (0, 2, 1)) @ eta_T"),
    ),
    full(
        "the gradient of L is transposed",
        ("FullGaussian.sample_backward", "xp.permute_dims(dz, (1, 2, 0)) @ xp.permute_dims(eta_T, (0, 2, 1))",
         "eta_T @ xp.permute_dims(dz, (1, 0, 2)) if eta_T.shape[0] > 1 else xp.permute_dims(dz, (1, 2, 0)) "
         "@ xp.permute_dims(eta_T, (0, 2, 1))"),
        first=("test_gradients.py",),
    ),
    full(
        "the logarithms of L's diagonal forget the chain rule",
        ("FullGaussian._pack", "below + L * eye", "below + eye"),
        first=("test_gradients.py",),
    ),
    full(
        "the KL has half the log determinant",
        ("FullGaussian.kl", "0.5 * (squares - self.n_latent) - self.log_det(phi)",
         "0.5 * (squares - self.n_latent - self.log_det(phi))"),
    ),
    full("the KL forgets −K", ("FullGaussian.kl", "0.5 * (squares - self.n_latent)", "0.5 * squares")),
    full(
        "the KL's gradient forgets the log determinant",
        ("FullGaussian.kl_backward", "L - self._inverse_diagonal(L)", "L"),
        first=("test_gradients.py",),
    ),
    full(
        "log q's gradient forgets the log determinant",
        ("FullGaussian.log_prob_backward", "-outer - total * self._inverse_diagonal(L)", "-outer"),
        first=("test_gradients.py",),
    ),
    full(
        "log q's gradient in z solves with L where Lᵀ belongs",
        ("FullGaussian.log_prob_backward", "xp.linalg.solve(L_T, du)", "xp.linalg.solve(L, du)"),
        first=("test_gradients.py",),
    ),
    full(
        "log q has the log determinant of the precision",
        ("FullGaussian.log_prob", "-0.5 * squares - self.log_det(phi)", "-0.5 * squares + self.log_det(phi)"),
    ),
    full(
        "the covariance is LᵀL",
        ("FullGaussian.covariance", "L @ namespace(phi).permute_dims(L, (0, 2, 1))",
         "namespace(phi).permute_dims(L, (0, 2, 1)) @ L"),
    ),
    full(
        "the closest q has the posterior's precision for its covariance",
        ("FullGaussian.closest", "xp.linalg.cholesky(xp.linalg.inv(precision))",
         "xp.linalg.cholesky(precision)"),
    ),
    full(
        "the diagonal q's log s lands where the last row's entries are",
        ("FullGaussian.from_diagonal", "1.0 if i == j == k else 0.0",
         "1.0 if i == K - 1 and j == k else 0.0"),
        first=("test_gaps.py::test_from_diagonal_is_the_same_q",),
    ),
    planar(
        "a flow's density has the volume of its inverse",
        ("Planar.inverse", "xp.log(slope)", "-xp.log(slope)"),
    ),
    planar(
        "a flow's way back ends after two steps",
        ("Planar.inverse", "range(NEWTON_STEPS)", "range(2)"),
    ),
    planar(
        "a layer of a flow hands its gradient on as if it moved nothing",
        ("Planar.backward", "du + da[:, :, None] * w[:, None, :]", "du"),
    ),
    planar(
        "a layer of a flow is not held to be invertible",
        ("Planar._directions", "v + push * w", "v"),
        ("Planar._directions_backward", "dr + dx * w", "dr"),
    ),
    nodes(
        "sigma points stand one standard deviation out, not √K",
        ("sigma_points", "np.concatenate([np.eye(n_latent), -np.eye(n_latent)]) * np.sqrt(n_latent)",
         "np.concatenate([np.eye(n_latent), -np.eye(n_latent)])"),
    ),
    nodes("sigma points weigh 1/K each", ("sigma_points", "0.5 / n_latent", "1 / n_latent")),
    nodes("Gauss–Hermite weights sum to √(2π)", ("gauss_hermite", "weights / weights.sum()", "weights")),
    nodes(
        "Gauss–Hermite nodes are those of exp(−x²)",
        ("gauss_hermite", "np.polynomial.hermite_e.hermegauss(order)",
         "np.polynomial.hermite.hermgauss(order)"),
    ),
    nodes(
        "Gauss–Hermite has a node fewer than asked for",
        ("gauss_hermite", "np.polynomial.hermite_e.hermegauss(order)",
         "np.polynomial.hermite_e.hermegauss(order - 1)"),
    ),
    nodes(
        "matched draws have no mirror images",
        ("matched_draws", "np.concatenate([rows, -rows])", "np.concatenate([rows, rows])"),
    ),
    nodes(
        "matched draws are whitened by the divisor of an unbiased covariance",
        ("matched_draws", "U.T @ U / half", "U.T @ U / (half + 1)"),
    ),
    nodes(
        "matched draws are turned by L where L⁻ᵀ belongs",
        ("matched_draws", "np.linalg.solve(L, U.T).T", "np.linalg.solve(L.T, U.T).T"),
    ),
]
