"""Certificates that say something else than they should."""

from msgspec.structs import replace

from overparam import Certificate


def altered(certificate: Certificate, **numbers: float) -> Certificate:
    """The same with other numbers."""
    return replace(certificate, numbers=replace(certificate.numbers, **numbers))
