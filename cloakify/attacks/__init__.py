"""Attacks on the shipped graph."""

from cloakify.attacks.apgd import Apgd, ApgdDlr
from cloakify.attacks.apgd_multi import ApgdMulti
from cloakify.attacks.apgd_t import ApgdT
from cloakify.attacks.base import Attack
from cloakify.attacks.cascade import AutoAttack, WorstCase, worst_case
from cloakify.attacks.fab import FabT
from cloakify.attacks.fgsm import Fgsm
from cloakify.attacks.mi_fgsm import MiFgsm
from cloakify.attacks.pgd import Pgd
from cloakify.attacks.registry import make_attack
from cloakify.attacks.square import Square
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel, make_threat

__all__ = [
    "Apgd",
    "ApgdDlr",
    "ApgdMulti",
    "ApgdT",
    "Attack",
    "AutoAttack",
    "FabT",
    "Fgsm",
    "MiFgsm",
    "Pgd",
    "Square",
    "Target",
    "ThreatModel",
    "WorstCase",
    "make_attack",
    "make_threat",
    "worst_case",
]
