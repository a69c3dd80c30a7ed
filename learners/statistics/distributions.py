"""The few distribution functions the kernel needs, typed, from `scipy.special`.

scipy ships no type information; this is the only module of the kernel that touches it, and it leaves
`scipy.stats` alone, whose import takes longer than all the rest.
"""

from scipy import special


def normal_quantile(probability: float) -> float:
    """Standard normal z with P(Z <= z) = probability."""
    return float(special.ndtri(probability))


def student_quantile(probability: float, degrees: float) -> float:
    """Student's t with P(T <= t) = probability; `degrees` of freedom need not be whole."""
    return float(special.stdtrit(degrees, probability))


def student_below(value: float, degrees: float) -> float:
    """P(T <= value) for Student's t."""
    return float(special.stdtr(degrees, value))


def chi_square_above(value: float, degrees: float) -> float:
    """P(X >= value) for chi-square."""
    return float(special.chdtrc(degrees, value))


def beta_quantile(probability: float, a: float, b: float) -> float:
    """x in [0, 1] with P(X <= x) = probability for Beta(a, b)."""
    return float(special.betaincinv(a, b, probability))


def log_gamma(value: float) -> float:
    """Natural logarithm of the gamma function, value > 0."""
    return float(special.gammaln(value))
