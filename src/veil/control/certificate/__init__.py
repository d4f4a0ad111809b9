"""A certificate for policies: are they multimodal where the demonstrations are?"""

from veil.control.certificate.certifying import certify
from veil.control.certificate.driven import Driven
from veil.control.certificate.result import Acts, Certificate, Verdict

__all__ = ["Acts", "Certificate", "Driven", "Verdict", "certify"]
