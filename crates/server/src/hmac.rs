//! HMAC-SHA256 for tokens, by ring. The providers that `jsonwebtoken` brings compile RSA and
//! elliptic curves too, which nobody here uses.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::signature::{Error as Mismatch, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use ring::hmac::{HMAC_SHA256, Key, sign, verify};

/// The provider.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key: &EncodingKey| Ok(Box::new(Hs256::new(*algorithm, key.as_bytes())?)),
    verifier_factory: |algorithm, key: &DecodingKey| {
        Ok(Box::new(Hs256::new(*algorithm, key.try_get_as_bytes()?)?))
    },
    key_utils: KeyUtils::new_unimplemented(), // for JSON Web Keys
};

/// Makes tokens work in this process.
pub(crate) fn install() {
    let _ = PROVIDER.install_default(); // fails only when it was done before
}

/// A key for HS256 (RFC 7518, 3.2).
struct Hs256(Key);

impl Hs256 {
    fn new(algorithm: Algorithm, key: &[u8]) -> Result<Hs256> {
        match algorithm {
            Algorithm::HS256 => Ok(Hs256(Key::new(HMAC_SHA256, key))),
            _ => Err(Error::from(ErrorKind::InvalidAlgorithm)),
        }
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Mismatch> {
        Ok(sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Mismatch> {
        verify(&self.0, message, signature).map_err(|_| Mismatch::new()) // in constant time
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}
