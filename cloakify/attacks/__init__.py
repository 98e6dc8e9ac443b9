"""Attacks on the shipped graph."""

from cloakify.attacks.apgd import Apgd, ApgdDlr
from cloakify.attacks.apgd_t import ApgdT
from cloakify.attacks.base import Attack
from cloakify.attacks.fgsm import Fgsm
from cloakify.attacks.pgd import Pgd
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel, make_threat

__all__ = [
    "Apgd",
    "ApgdDlr",
    "ApgdT",
    "Attack",
    "Fgsm",
    "Pgd",
    "Target",
    "ThreatModel",
    "make_threat",
]
