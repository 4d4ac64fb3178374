"""Certificates: proofs that a prediction cannot change within a radius, one file each."""

from gauntlet.certificates.certificate import Certificate, Certified

__all__ = ["Certificate", "Certified"]
