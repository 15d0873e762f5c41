# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Advantages and returns of a rollout: scans from its last step to its first.

All arrays are time-major, `[T, E]`, but `value` with the row of the newest frame more, `[T+1, E]`:
`value[t+1]` belongs to the observation that step t led to. `ends[t]` says that the recursion of step
t stops at that observation; `valid[t]` that there is a step at all (not on an episode's final
observation). Inputs and outputs are float or double; what is carried from step to step is double.
"""

from libc.math cimport exp
from libc.stdint cimport uint8_t

ctypedef fused real:
    float
    double


cdef inline bint goes_on(
    const uint8_t[:, :] ends, const uint8_t[:, :] valid, Py_ssize_t t, Py_ssize_t e
) noexcept nogil:
    """Whether step t+1 takes up where step t leaves off."""
    return not ends[t, e] and t + 1 < ends.shape[0] and valid[t + 1, e]


def gae(
    const real[:, :] reward,
    const real[:, :] discount,
    const real[:, :] value,
    const uint8_t[:, :] ends,
    const uint8_t[:, :] valid,
    double lambda_,
    double[::1] carry,
    real[:, :] advantage,
):
    """Fill in `advantage`; `carry` `[E]` is room to work in."""
    cdef Py_ssize_t t, e
    cdef double d, v, total
    with nogil:
        for t in range(reward.shape[0] - 1, -1, -1):
            for e in range(reward.shape[1]):
                if not valid[t, e]:
                    advantage[t, e] = 0
                    continue
                d = discount[t, e]
                v = value[t + 1, e]
                total = reward[t, e] + d * v - value[t, e]
                if goes_on(ends, valid, t, e):
                    total += d * lambda_ * carry[e]
                carry[e] = total
                advantage[t, e] = <real>total


def lambda_returns(
    const real[:, :] reward,
    const real[:, :] discount,
    const real[:, :] value,
    const uint8_t[:, :] ends,
    const uint8_t[:, :] valid,
    double lambda_,
    double[::1] carry,
    real[:, :] returns,
):
    """Fill in `returns`; `carry` `[E]` is room to work in."""
    cdef Py_ssize_t t, e
    cdef double after
    with nogil:
        for t in range(reward.shape[0] - 1, -1, -1):
            for e in range(reward.shape[1]):
                if not valid[t, e]:
                    returns[t, e] = 0
                    continue
                after = value[t + 1, e]
                if goes_on(ends, valid, t, e):
                    after = (1 - lambda_) * after + lambda_ * carry[e]
                carry[e] = reward[t, e] + discount[t, e] * after
                returns[t, e] = <real>carry[e]


def vtrace(
    const real[:, :] log_rhos,
    const real[:, :] reward,
    const real[:, :] discount,
    const real[:, :] value,
    const uint8_t[:, :] ends,
    const uint8_t[:, :] valid,
    double rho_bar,
    double c_bar,
    double lambda_,
    double[::1] carry,
    real[:, :] targets,
    real[:, :] advantage,
):
    """Fill in `targets` and `advantage`; `carry` `[E]` is room to work in: v_s - V(x_s)."""
    cdef Py_ssize_t t, e
    cdef double d, v, ratio, rho, c, correction, after
    with nogil:
        for t in range(reward.shape[0] - 1, -1, -1):
            for e in range(reward.shape[1]):
                if not valid[t, e]:
                    targets[t, e] = 0
                    advantage[t, e] = 0
                    continue
                ratio = exp(<double>log_rhos[t, e])
                rho = ratio if ratio < rho_bar else rho_bar
                c = lambda_ * (ratio if ratio < c_bar else c_bar)
                d = discount[t, e]
                v = value[t, e]
                after = value[t + 1, e]
                correction = carry[e] if goes_on(ends, valid, t, e) else 0.0
                advantage[t, e] = <real>(rho * (reward[t, e] + d * (after + correction) - v))
                carry[e] = rho * (reward[t, e] + d * after - v) + d * c * correction
                targets[t, e] = <real>(v + carry[e])
