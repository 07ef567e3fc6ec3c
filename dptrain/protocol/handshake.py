"""Who may join: each side proves to the other that it holds the run's key, without sending it.

The proof is HMAC-SHA256 over a role and both nonces (the scheme of RFC 2104 with the challenge
and response of ISO/IEC 9798-4): a recorded conversation cannot be replayed, because the nonces are
new, and an answer cannot be reflected, because the roles differ.
"""

import hashlib
import hmac
import secrets

KEY_BYTES = 32
NONCE_BYTES = 32


def new_key() -> bytes:
    """Return a new random key."""
    return secrets.token_bytes(KEY_BYTES)


def new_nonce() -> bytes:
    """Return a new random nonce."""
    return secrets.token_bytes(NONCE_BYTES)


def proof(key: bytes, role: str, worker_nonce: bytes, coordinator_nonce: bytes) -> bytes:
    """Return what ``role`` ("worker" or "coordinator") sends to show that it holds the key."""
    return hmac.digest(key, role.encode() + worker_nonce + coordinator_nonce, hashlib.sha256)


def proves(sent: bytes, expected: bytes) -> bool:
    """Return whether a proof is the expected one, in constant time."""
    return hmac.compare_digest(sent, expected)
