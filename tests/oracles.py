"""Naive textbook versions in float64, numpy and scipy only: loops and index lists, nothing clever.

Letters: y [N, D] data, x [N, P] evidence, phi [N, 1 + P] = [1, x], r [N, K] responsibilities, w [N] weights,
W [K, D, 1 + P] regression matrices, S [K, D, D] covariances, seen [N, D] which entries are present.
"""

import numpy as np
import scipy.special
import scipy.stats


def features(x, count):
    """[1, x] for each row; [1] without evidence."""
    one = np.ones((count, 1))
    return one if x is None else np.concatenate([one, x], axis=1)


def softmax(logits):
    return np.exp(logits - scipy.special.logsumexp(logits, axis=-1, keepdims=True))


# -- Gaussian densities --------------------------------------------------------------------------------------------


def gaussian_log_density(y, mean, covariance, seen=None):
    """log N(y_o; mean_o, covariance_oo): the marginal over the entries in an index list; 0 when the list is empty."""
    present = list(range(len(y))) if seen is None else [i for i in range(len(y)) if seen[i]]
    if not present:
        return 0.0
    r = np.array([y[i] - mean[i] for i in present])
    s = np.array([[covariance[i, j] for j in present] for i in present])
    return float(-0.5 * r @ np.linalg.inv(s) @ r - 0.5 * np.log(np.linalg.det(2 * np.pi * s)))


def gaussian_fill(y, mean, covariance, seen):
    """E[y | y_o] and Cov[y | y_o] (Bishop 2006, eqs. 2.81-2.82), by index lists."""
    o = [i for i in range(len(y)) if seen[i]]
    m = [i for i in range(len(y)) if not seen[i]]
    filled, conditional = np.where(seen, y, mean), np.zeros_like(covariance)
    if m and o:
        gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
        filled[m] = mean[m] + gain @ (y[o] - mean[o])
        conditional[np.ix_(m, m)] = covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)]
    elif m:
        conditional = covariance.copy()
    return filled, conditional


def log_joints(y, phi, log_gate, W, S, seen=None):
    """log p(z | x) + log N(y_o; W_z phi, S_z) for all data and all z, [N, K]."""
    count, components = log_gate.shape
    out = np.zeros((count, components))
    for n in range(count):
        for k in range(components):
            used = phi[n, : W.shape[2]]
            density = gaussian_log_density(y[n], W[k] @ used, S[k], None if seen is None else seen[n])
            out[n, k] = log_gate[n, k] + density
    return out


def posterior(joints):
    """Bayes' rule, one datum at a time: joint over the sum of joints."""
    out = np.zeros_like(joints)
    for n, row in enumerate(joints):
        p = np.exp(row - row.max())
        out[n] = p / p.sum()
    return out


def log_marginal(joints):
    return np.array([row.max() + np.log(np.sum(np.exp(row - row.max()))) for row in joints])


# -- the M-step of Gaussian experts --------------------------------------------------------------------------------


def structured(scatter, counts, floor, structure):
    """The covariances that maximise the penalised expected log-likelihood, from scatters [K, D, D]."""
    components, size = scatter.shape[:2]
    identity = np.eye(size)
    if structure == "tied-full":
        return np.repeat(((scatter.sum(0) + floor * identity) / counts.sum())[None], components, 0)
    if structure == "tied-diagonal":
        return np.repeat(np.diag((np.diag(scatter.sum(0)) + floor) / counts.sum())[None], components, 0)
    out = np.zeros_like(scatter)
    for k in range(components):
        if structure == "full":
            out[k] = (scatter[k] + floor * identity) / counts[k]
        elif structure == "diagonal":
            out[k] = np.diag((np.diag(scatter[k]) + floor) / counts[k])
        elif structure == "spherical":
            out[k] = identity * (np.trace(scatter[k]) / size + floor) / counts[k]
        else:
            raise ValueError(structure)
    return out


def gaussian_step(y, phi, r, w, W, S, structure, floor, ridge, seen=None):
    """One M-step of linear-Gaussian experts by weighted least squares; missing entries at their expectations.

    Penalty: -floor/2 Σ_k tr S_k⁻¹ (once for a tied covariance) - ridge/2 Σ_k tr(B_kᵀ S_k⁻¹ B_k), B_k the slopes.
    """
    count, components = r.shape
    size, inputs = W.shape[1:]
    penalty = ridge * np.diag([0.0] + [1.0] * (inputs - 1))
    new, scatter, counts = np.zeros_like(W), np.zeros((components, size, size)), np.zeros(components)
    for k in range(components):
        moment, cross = np.zeros((inputs, inputs)), np.zeros((size, inputs))
        filled, extra = np.zeros((count, size)), np.zeros((size, size))
        for n in range(count):
            used = phi[n, :inputs]
            filled[n] = y[n]
            if seen is not None:
                filled[n], conditional = gaussian_fill(y[n], W[k] @ used, S[k], seen[n])
                extra += w[n] * r[n, k] * conditional
            moment += w[n] * r[n, k] * np.outer(used, used)
            cross += w[n] * r[n, k] * np.outer(filled[n], used)
            counts[k] += w[n] * r[n, k]
        new[k] = cross @ np.linalg.inv(moment + penalty)
        for n in range(count):
            e = filled[n] - new[k] @ phi[n, :inputs]
            scatter[k] += w[n] * r[n, k] * np.outer(e, e)
        scatter[k] += extra + new[k] @ penalty @ new[k].T
    return new, structured(scatter, counts, floor, structure)


def gaussian_log_prior(W, S, structure, floor, ridge):
    total = 0.0
    for k in range(len(S)):
        inverse = np.linalg.inv(S[k])
        if not structure.startswith("tied") or k == 0:
            total -= 0.5 * floor * np.trace(inverse)
        slopes = W[k][:, 1:]
        total -= 0.5 * ridge * np.trace(slopes.T @ inverse @ slopes)
    return total


def mixture_em(y, weights, means, S, steps, structure="full", floor=1e-6, w=None, seen=None):
    """EM of a Gaussian mixture, `steps` times; returns parameters and the penalised log-likelihood before each step."""
    w = np.ones(len(y)) if w is None else w
    phi, values = features(None, len(y)), []
    for _ in range(steps):
        joints = log_joints(y, phi, np.repeat(np.log(weights)[None], len(y), 0), means[:, :, None], S, seen)
        values.append(w @ log_marginal(joints) + gaussian_log_prior(means[:, :, None], S, structure, floor, 0.0))
        r = posterior(joints)
        W, S = gaussian_step(y, phi, r, w, means[:, :, None], S, structure, floor, 0.0, seen)
        means, weights = W[:, :, 0], (w @ r) / w.sum()
    return weights, means, S, np.array(values)


# -- softmax regression --------------------------------------------------------------------------------------------


def softmax_log_likelihood(weight, phi, r, w, ridge=0.0, bias_share=1e-6):
    """Σ_n w_n Σ_k r_nk log softmax(weight phi_n)_k minus the ridge (with a trace of it on the biases)."""
    total = 0.0
    for n in range(len(phi)):
        logits = weight @ phi[n]
        for k in range(len(weight)):
            total += w[n] * r[n, k] * (logits[k] - scipy.special.logsumexp(logits))
    share = np.array([bias_share] + [1.0] * (phi.shape[1] - 1))
    return total - 0.5 * ridge * np.sum(share * weight**2)


def softmax_bound_step(weight, phi, r, w, ridge=0.0, bias_share=1e-6):
    """Böhning's step, the maximum of the quadratic bound: the Kronecker-shaped system solved densely."""
    components, inputs = weight.shape
    share = np.array([bias_share] + [1.0] * (inputs - 1))
    gradient, bound = np.zeros((components, inputs)), np.zeros((components * inputs, components * inputs))
    centring = np.eye(components) - np.ones((components, components)) / components
    for n in range(len(phi)):
        p = softmax(weight @ phi[n])
        gradient += w[n] * np.outer(r[n] - p, phi[n])
        bound += 0.5 * w[n] * np.kron(centring, np.outer(phi[n], phi[n]))
    gradient -= ridge * share * weight
    bound += np.kron(np.eye(components), np.diag(ridge * share))
    return weight + (np.linalg.pinv(bound) @ gradient.ravel()).reshape(weight.shape)


# -- discrete mixtures ---------------------------------------------------------------------------------------------


def bernoulli_log_density(y, p, seen):
    return sum(np.log(p[i] if y[i] == 1 else 1 - p[i]) for i in range(len(y)) if seen[i])


def poisson_log_density(y, rate, seen):
    return sum(scipy.stats.poisson.logpmf(y[i], rate[i]) for i in range(len(y)) if seen[i])


def categorical_log_density(y, p, seen):
    """p [D, C]."""
    return sum(np.log(p[i, int(y[i])]) for i in range(len(y)) if seen[i])


def discrete_step(y, r, w, seen, family, pseudo, categories=0):
    """The M-step of independent entries from (pseudo-)counts: probabilities [K, D], rates [K, D] or [K, D, C]."""
    count, components = r.shape
    size = y.shape[1]
    out = np.zeros((components, size, categories)) if family == "categorical" else np.zeros((components, size))
    for k in range(components):
        for d in range(size):
            rows = [n for n in range(count) if seen[n, d]]
            mass = sum(w[n] * r[n, k] for n in rows)
            total = sum(w[n] * r[n, k] * y[n, d] for n in rows)
            if family == "bernoulli":
                out[k, d] = (total + pseudo) / (mass + 2 * pseudo)
            elif family == "poisson":
                out[k, d] = (total + pseudo) / (mass + pseudo)
            else:
                for c in range(categories):
                    hits = sum(w[n] * r[n, k] for n in rows if y[n, d] == c)
                    out[k, d, c] = (hits + pseudo) / (mass + categories * pseudo)
    return out


# -- conditioning --------------------------------------------------------------------------------------------------


def mixture_density(y, weights, means, S, columns=None):
    """log p of some columns of a Gaussian mixture, the others integrated out."""
    columns = list(range(means.shape[1])) if columns is None else list(columns)
    joints = np.array(
        [
            [
                np.log(weights[k])
                + gaussian_log_density(row[columns], means[k][columns], S[k][np.ix_(columns, columns)])
                for k in range(len(weights))
            ]
            for row in y
        ]
    )
    return log_marginal(joints)
