//! Ed25519 keys and their ids. Seeds come from the programs: nothing here draws randomness.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::canonical::{self, NonCanonical, Wire};
use crate::digest::Digest;
use crate::messages::bundle as wire;

/// Bytes of a seed and of a public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Algorithm byte of Ed25519 in a key id, the value of `KEY_ALGORITHM_ED25519`.
const ED25519_ID: u8 = 1;

/// SHA-256(algorithm byte ‖ public key). Computed from a key, never read beside one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Digest);

impl KeyId {
    /// Takes an id that a statement names.
    pub const fn from_digest(digest: Digest) -> Self {
        Self(digest)
    }

    /// The id as a digest.
    pub const fn digest(&self) -> &Digest {
        &self.0
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The 64 hexadecimal digits alone.
    pub fn to_hex(self) -> String {
        self.0.to_hex()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.0.to_hex())
    }
}

/// A signature did not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct BadSignature;

/// Bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a 32-byte Ed25519 key")]
pub struct KeyError;

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// Takes the 32 bytes of RFC 8032 §5.1.5.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        match bytes.try_into() {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => Err(KeyError),
        }
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The id that roles name this key by.
    pub fn id(&self) -> KeyId {
        KeyId(Digest::of_parts(&[&[ED25519_ID], &self.0]))
    }

    /// Verifies a signature over these bytes.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        match UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature) {
            Ok(()) => Ok(()),
            Err(_) => Err(BadSignature),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex::encode(self.0))
    }
}

impl Wire for PublicKey {
    type Message = wire::PublicKey;

    fn to_message(&self) -> wire::PublicKey {
        wire::PublicKey {
            algorithm: wire::KeyAlgorithm::Ed25519 as i32,
            key: self.0.to_vec(),
        }
    }

    fn from_message(message: wire::PublicKey) -> Result<Self, NonCanonical> {
        match canonical::enumeration("public_key.algorithm", message.algorithm)? {
            wire::KeyAlgorithm::Ed25519 => {}
            wire::KeyAlgorithm::Unspecified => {
                return Err(canonical::invalid("public_key.algorithm", "unspecified"));
            }
        }
        Self::from_bytes(&message.key)
            .map_err(|error| canonical::invalid("public_key.key", &error.to_string()))
    }
}

/// An Ed25519 private key. It never prints itself.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key of this seed (RFC 8032 §5.1.5).
    pub fn from_seed(seed: [u8; KEY_BYTES]) -> Self {
        Self(
            Ed25519KeyPair::from_seed_unchecked(&seed)
                .expect("every 32-byte string is an Ed25519 seed"),
        )
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.public_key().as_ref())
            .expect("an Ed25519 public key has 32 bytes")
    }

    /// The id of the public half.
    pub fn id(&self) -> KeyId {
        self.public().id()
    }

    /// Signs these bytes; Ed25519 is deterministic.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1, test 1.
    #[test]
    fn known_answer() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap();
        let key = SigningKey::from_seed(seed.try_into().unwrap());
        assert_eq!(
            hex::encode(key.public().as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let signature = key.sign(b"");
        assert_eq!(key.public().verify(b"", &signature), Ok(()));
        assert_eq!(key.public().verify(b"x", &signature), Err(BadSignature));
        assert_eq!(key.public().verify(b"", b""), Err(BadSignature));
    }

    #[test]
    fn never_prints_the_seed() {
        let key = SigningKey::from_seed([7; 32]);
        assert!(!format!("{key:?}").contains("0707"));
    }
}
