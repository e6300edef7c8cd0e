"""The keys that verify tokens. Each is bound to one algorithm before any token is read.

A token's header only selects one of them, so it cannot make a public key be used as an HMAC secret
(RFC 8725, section 3.1).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK, PyJWTError
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from app.config import Settings

HS256 = "HS256"
PUBLIC_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}
"""Algorithms by a JWK's `kty` and `crv` (RFC 7518, section 6)."""
NO_ID = ""
"""The id of a key without `kid`, of which a set may have one."""
MIN_RSA_BITS = 2048
"""The least size of an RSA key: RFC 7518, section 3.3."""


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The keys: `secret` signs and verifies HS256; `public` and `by_id` verify RS256 or ES256.

    `other_secret` verifies HS256 too, while one secret takes the place of the other.
    """

    secret: PyJWK | None = None
    public: PyJWK | None = None
    by_id: Mapping[str, PyJWK] = field(default_factory=dict)
    other_secret: PyJWK | None = None

    def of(self, header: Mapping[str, Any]) -> list[PyJWK]:
        """Return the keys, if any, one of which must have signed a token with this header.

        A token needs no `kid` where the set has a single key: OpenID Connect Core, section 10.1.
        """
        if header.get("alg") == HS256:
            possible = [self.secret, self.other_secret]
        elif "kid" in header or len(self.by_id) != 1:
            possible = [self.by_id.get(header.get("kid", NO_ID), self.public)]
        else:
            possible = [self.public, *self.by_id.values()]
        return [key for key in possible if key and key.algorithm_name == header.get("alg")]


def load_token_keys(settings: Settings) -> TokenKeys:
    """Load the keys of the settings, or exit with one line that names a bad variable."""
    secret, pem, file = settings.jwt_secret, settings.jwt_public_key, settings.jwt_jwks_file
    try:
        variable = "JWT_PUBLIC_KEY"
        public = public_key(pem) if pem else None
        variable = "JWT_JWKS_FILE"
        by_id = key_set(Path(file).read_bytes()) if file else {}
    except (ValueError, OSError, PyJWTError) as error:
        # Error messages of cryptography have several lines.
        raise SystemExit(f"{variable}: {' '.join(str(error).split())}") from None
    return TokenKeys(_secret(secret), public, by_id, _secret(settings.jwt_other_secret))


def _secret(text: str | None) -> PyJWK | None:
    return secret_key(text) if text else None


def secret_key(secret: str) -> PyJWK:
    """Prepare a secret once: PyJWT would check a plain one for PEM and DER at each use."""
    encoded = base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")
    return PyJWK({"kty": "oct", "k": encoded}, HS256)


def public_key(pem: str) -> PyJWK:
    """Load a public key from a PEM text (`\\n` may stand for its line ends), or a file of one.

    Raises ValueError, OSError.
    """
    text = pem.replace("\\n", "\n") if "-----BEGIN" in pem else Path(pem).read_text()
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(
            "must be the PEM text of a public key of RSA or EC P-256, or a file that holds it"
        ) from None
    if isinstance(key, RSAPublicKey):
        return _bound(RSAAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, EllipticCurvePublicKey):
        return _bound(ECAlgorithm.to_jwk(key, as_dict=True))
    raise ValueError("must be a key of RSA or of EC P-256")


def key_set(document: bytes) -> dict[str, PyJWK]:
    """Return the signature keys of a JWK Set (RFC 7517) by id. Raises ValueError, PyJWTError."""
    keys: dict[str, PyJWK] = {}
    for jwk in _members(document):
        id = jwk.get("kid", NO_ID)
        if not isinstance(id, str) or id in keys:
            raise ValueError("each key needs a `kid` of its own")
        keys[id] = _bound(jwk)
    if not keys:
        raise ValueError("must hold at least one key for signatures")
    return keys


def _members(document: bytes) -> list[dict[str, Any]]:
    """Return all keys except those for encryption, which identity providers publish, too."""
    parsed = orjson.loads(document)
    keys = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError("must be a JWK Set: an object with an array `keys`")
    return [key for key in keys if key.get("use") != "enc"]


def _bound(jwk: dict[str, Any]) -> PyJWK:
    """Bind a public key to the only algorithm accepted for its type. Raises ValueError."""
    algorithm = PUBLIC_ALGORITHMS.get((str(jwk.get("kty")), jwk.get("crv") and str(jwk["crv"])))
    if algorithm is None or jwk.get("alg", algorithm) != algorithm or "d" in jwk:
        raise ValueError("only public keys of RSA (RS256) and EC P-256 (ES256) are taken")
    key = PyJWK(jwk, algorithm)
    if algorithm == "RS256" and key.key.key_size < MIN_RSA_BITS:
        raise ValueError(f"an RSA key must have at least {MIN_RSA_BITS} bits")
    return key
