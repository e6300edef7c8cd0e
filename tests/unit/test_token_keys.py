"""Each key verifies tokens of its own algorithm only."""

import hmac
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from app.config import load_settings
from app.errors import TokenExpired, Unauthorized
from app.identity.token_keys import TokenKeys, key_set, load_token_keys, public_key, secret_key
from app.identity.tokens import Tokens
from app.times import now

SECRET = "s" * 48
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
SHORT_RSA = rsa.generate_private_key(65537, 1024)
EC = ec.generate_private_key(ec.SECP256R1())
EC_384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
UNKNOWN_CURVE = """-----BEGIN PUBLIC KEY-----
MDIwEAYHKoZIzj0CAQYFK4EEAAYDHgAElEn7dTxI5Y7xdCaFvch33hPyd+iaUBlL
V25bdA==
-----END PUBLIC KEY-----"""
"""A key of secp112r1, which the library does not know."""


def pem(private: Any) -> str:
    """Return the public key in PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(private.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


def private_pem(private: Any) -> str:
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return str(private.private_bytes(serialization.Encoding.PEM, form, none).decode())


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    """Return the key in JWK format; a private key stays private."""
    kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey) else ECAlgorithm
    return {**kind.to_jwk(key, as_dict=True), "kid": "one", **more}


def unnamed(key: Any) -> dict[str, Any]:
    """Return the key in JWK format, without an id."""
    return {name: value for name, value in jwk(key).items() if name != "kid"}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signed(key: Any, algorithm: str, kid: str | None = None) -> str:
    claims = {"sub": str(uuid4()), "exp": now() + timedelta(minutes=1)}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid else None)


def forged(header: dict[str, str], known: bytes) -> str:
    """Return an HS256 token signed with a public key, which the library refuses to make."""
    claims = {"sub": str(uuid4()), "exp": int(now().timestamp()) + 60}
    parts = [
        base64url_encode(json.dumps(part).encode()) for part in ({"alg": "HS256", **header}, claims)
    ]
    signature = hmac.digest(known, b".".join(parts), "sha256")
    return b".".join([*parts, base64url_encode(signature)]).decode()


def assert_refused(keys: TokenKeys, token: str) -> None:
    with pytest.raises(Unauthorized):
        Tokens(keys, 60).read(token)


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
def test_a_public_key_verifies_its_own_algorithm_alone(key: Any, algorithm: str) -> None:
    keys = TokenKeys(public=public_key(pem(key)))
    Tokens(keys, 60).read(signed(key, algorithm))
    Tokens(keys, 60).read(signed(key, algorithm, kid="unheard of"))
    other = (EC, "ES256") if key is RSA else (RSA, "RS256")
    assert_refused(keys, signed(*other))
    assert_refused(keys, signed(SECRET, "HS256"))


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_a_longer_hash_or_another_padding_is_another_algorithm(algorithm: str) -> None:
    assert_refused(TokenKeys(public=public_key(pem(RSA))), signed(RSA, algorithm))


@pytest.mark.parametrize("secret", [None, secret_key(SECRET)], ids=["alone", "beside a secret"])
@pytest.mark.parametrize("key", [RSA, EC], ids=["RSA", "EC"])
def test_a_public_key_is_never_a_secret(key: Any, secret: jwt.PyJWK | None) -> None:
    document = jwks(jwk(key.public_key()))
    keys = TokenKeys(secret, public_key(pem(key)), key_set(document))
    headers: list[dict[str, str]] = [{}, {"kid": "one"}]
    for known in (pem(key).encode(), pem(key).strip().encode(), document):
        for header in headers:
            assert_refused(keys, forged(header, known))


def test_what_is_forged_so_is_well_signed() -> None:
    Tokens(TokenKeys(secret_key(SECRET)), 60).read(forged({}, SECRET.encode()))


def test_an_unsigned_token_is_refused_whatever_the_keys() -> None:
    keys = TokenKeys(secret_key(SECRET), public_key(pem(RSA)), key_set(jwks(jwk(EC.public_key()))))
    for kid in (None, "one"):
        assert_refused(keys, signed(None, "none", kid))


def test_a_secret_and_a_public_key_each_verify_their_own() -> None:
    tokens = Tokens(TokenKeys(secret_key(SECRET), public_key(pem(RSA))), 60)
    tokens.read(signed(SECRET, "HS256"))
    tokens.read(signed(RSA, "RS256"))
    for token in (signed("t" * 48, "HS256"), signed(OTHER_RSA, "RS256")):
        with pytest.raises(Unauthorized):
            tokens.read(token)


def test_two_secrets_are_good_while_one_takes_the_place_of_the_other() -> None:
    new = "n" * 48
    both = Tokens(TokenKeys(secret_key(new), other_secret=secret_key(SECRET)), 60)
    both.read(signed(SECRET, "HS256"))
    issued = both.issue(both.read(signed(new, "HS256")))
    after = TokenKeys(secret_key(new))
    Tokens(after, 60).read(issued)
    assert_refused(after, signed(SECRET, "HS256"))


def test_an_old_token_of_the_other_secret_has_expired() -> None:
    keys = TokenKeys(secret_key("n" * 48), other_secret=secret_key(SECRET))
    claims = {"sub": str(uuid4()), "exp": now() - timedelta(minutes=1)}
    with pytest.raises(TokenExpired):
        Tokens(keys, 60).read(jwt.encode(claims, SECRET, "HS256"))


def test_the_settings_name_both_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "n" * 48)
    monkeypatch.setenv("JWT_OTHER_SECRET", SECRET)
    tokens = Tokens(load_token_keys(load_settings()), 60)
    tokens.read(signed(SECRET, "HS256"))
    tokens.read(signed("n" * 48, "HS256"))


def test_a_set_holds_the_old_key_and_the_new_one_while_they_rotate() -> None:
    both = jwks(jwk(RSA.public_key(), kid="old"), jwk(EC.public_key(), kid="new"))
    tokens = Tokens(TokenKeys(by_id=key_set(both)), 60)
    tokens.read(signed(RSA, "RS256", "old"))
    tokens.read(signed(EC, "ES256", "new"))
    after = TokenKeys(by_id=key_set(jwks(jwk(EC.public_key(), kid="new"))))
    Tokens(after, 60).read(signed(EC, "ES256", "new"))
    assert_refused(after, signed(RSA, "RS256", "old"))


def test_a_key_of_a_set_is_chosen_by_its_id_alone() -> None:
    keys = TokenKeys(
        by_id=key_set(jwks(jwk(RSA.public_key()), jwk(OTHER_RSA.public_key(), kid="other")))
    )
    for kid in (None, "other", "third"):
        assert_refused(keys, signed(RSA, "RS256", kid))


@pytest.mark.parametrize("known", [jwk(RSA.public_key()), unnamed(RSA.public_key())])
def test_a_token_needs_no_id_where_the_set_has_a_single_key(known: dict[str, Any]) -> None:
    keys = TokenKeys(public=public_key(pem(EC)), by_id=key_set(jwks(known)))
    Tokens(keys, 60).read(signed(RSA, "RS256"))
    Tokens(keys, 60).read(signed(EC, "ES256"))
    assert_refused(keys, signed(OTHER_RSA, "RS256"))
    assert_refused(keys, signed(RSA, "RS256", "third"))


def test_a_key_for_encryption_is_left_out() -> None:
    other = jwk(OTHER_RSA.public_key(), kid="other", use="enc", alg="RSA-OAEP")
    assert key_set(jwks(jwk(RSA.public_key(), use="sig"), other)).keys() == {"one"}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": ["one"]}',
        jwks({"kty": "oct", "kid": "one", "k": "c2VjcmV0" * 8}),
        jwks({"kty": "oct", "kid": "one", "k": "c2VjcmV0" * 8, "alg": "HS256"}),
        jwks({"kty": "RSA", "kid": "one"}),
        jwks({"kty": ["RSA"], "kid": "one"}),
        jwks({"kty": "RSA", "kid": "one", "n": 5, "e": []}),
        jwks(jwk(RSA)),
        jwks(jwk(RSA.public_key(), kid=None)),
        jwks(jwk(RSA.public_key()), jwk(EC.public_key())),
        jwks(unnamed(RSA.public_key()), unnamed(EC.public_key())),
        jwks(jwk(RSA.public_key(), alg="HS256")),
        jwks(jwk(RSA.public_key(), alg="RS512")),
        jwks(jwk(RSA.public_key(), alg="none")),
        jwks(jwk(EC.public_key(), alg="RS256")),
        jwks(jwk(SHORT_RSA.public_key())),
        jwks(jwk(EC_384.public_key())),
    ],
)
def test_a_set_that_could_not_be_trusted_stops_the_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, document: bytes
) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(document)
    monkeypatch.setenv("JWT_JWKS_FILE", str(file))
    with pytest.raises(SystemExit, match=r"^JWT_JWKS_FILE: [^\n]+$"):
        load_token_keys(load_settings())


@pytest.mark.parametrize(
    "text",
    [
        "no key, and no file",
        "-----BEGIN PUBLIC KEY-----",
        pem(ED),
        pem(SHORT_RSA),
        pem(EC_384),
        UNKNOWN_CURVE,
        private_pem(RSA),
        private_pem(EC),
    ],
)
def test_a_public_key_that_could_not_be_trusted_stops_the_worker(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("JWT_PUBLIC_KEY", text)
    with pytest.raises(SystemExit, match=r"^JWT_PUBLIC_KEY: [^\n]+$"):
        load_token_keys(load_settings())


def test_a_public_key_is_a_text_in_one_line_or_more_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key.pem"
    file.write_text(pem(EC))
    monkeypatch.delenv("JWT_SECRET")
    monkeypatch.setenv("AUTH_LOCAL", "false")
    for value in (pem(EC), pem(EC).replace("\n", "\\n"), str(file)):
        monkeypatch.setenv("JWT_PUBLIC_KEY", value)
        Tokens(load_token_keys(load_settings()), 60).read(signed(EC, "ES256"))


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("JWT_JWKS_FILE", "JWT_PUBLIC_KEY"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
        with pytest.raises(SystemExit, match=rf"^{name}: [^\n]+$"):
            load_token_keys(load_settings())
        monkeypatch.delenv(name)
