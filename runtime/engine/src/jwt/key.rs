//! Sets of public keys (RFC 7517), each key pinned to one algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::json::{self, Json, member};
use crate::limits;

/// How a token is signed. Symmetric ones are not among them: whoever verified could sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// The same with SHA-384.
    Ps384,
    /// The same with SHA-512.
    Ps512,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// ECDSA over P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// By its name in RFC 7518 section 3.1 and RFC 9864.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// The key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Modulus and exponent, big-endian.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point of the algorithm's curve, uncompressed (SEC 1 section 2.3.3).
    Ec(Vec<u8>),
    /// 32 bytes.
    Ed25519(Vec<u8>),
}

/// One key and the one algorithm that it is for (RFC 8725 section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name; a token names the key that signed it.
    pub id: Option<String>,
    /// What it is for.
    pub algorithm: Algorithm,
    /// The key.
    pub public: PublicKey,
}

/// Why a set of keys is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Over its bound.
    #[error("more than {} bytes", limits::KEY_SET_BYTES_MAX)]
    TooLarge,
    /// Over its bound.
    #[error("more than {} keys", limits::KEYS_MAX)]
    TooManyKeys,
    /// Not JSON, a member twice, or no list of objects `keys`.
    #[error("not a JSON Web Key Set")]
    Malformed,
    /// Whoever reads it could sign. The whole set is refused: it shows that its owner's secrets are out.
    #[error("key {0} is private")]
    Private(usize),
    /// Of none of them this proxy can make use.
    #[error("no key in it verifies tokens")]
    NoneUsable,
}

/// A key that is ready to verify.
pub trait VerifyingKey {
    /// Whether it signed this, with the algorithm of its [`Key`].
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool;
}

/// The keys of a provider.
#[derive(Clone, Debug)]
pub struct KeySet<V>(Box<[(Key, V)]>);

/// Members that only a key's owner may know: RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

impl Key {
    /// The keys of a set that verify tokens. Others are left out, as RFC 7517 section 5 asks: those of kinds that are
    /// not known, for encryption, or out of range.
    pub fn parse_set(text: &[u8]) -> Result<Vec<Self>, KeySetError> {
        if text.len() > limits::KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let set = json::object(text).ok_or(KeySetError::Malformed)?;
        let Some(Json::List(keys)) = member(&set, "keys") else {
            return Err(KeySetError::Malformed);
        };
        if keys.len() > limits::KEYS_MAX {
            return Err(KeySetError::TooManyKeys);
        }
        let mut found = Vec::new();
        for (position, key) in keys.iter().enumerate() {
            let Json::Object(key) = key else {
                return Err(KeySetError::Malformed);
            };
            let is_symmetric = member(key, "kty").and_then(Json::as_text) == Some("oct");
            let is_private = PRIVATE.iter().any(|name| member(key, name).is_some());
            if is_symmetric || is_private {
                return Err(KeySetError::Private(position + 1));
            }
            found.extend(Self::parse(key));
        }
        Ok(found)
    }

    fn parse(key: &[(String, Json)]) -> Option<Self> {
        let text = |name: &str| member(key, name).and_then(Json::as_text);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if member(key, "use").is_some_and(|purpose| purpose.as_text() != Some("sig")) {
            return None;
        }
        if let Some(operations) = member(key, "key_ops") {
            let Json::List(operations) = operations else {
                return None;
            };
            let mut operations = operations.iter().filter_map(Json::as_text);
            operations.find(|operation| *operation == "verify")?;
        }
        let id = match member(key, "kid") {
            None => None,
            Some(id) => Some(id.as_text()?.to_owned()),
        };
        let (usual, others, public): (_, &[Algorithm], _) = match text("kty")? {
            "RSA" => {
                let rsa = PublicKey::Rsa {
                    n: bytes("n").filter(|n| RSA_BYTES.contains(&n.len()))?,
                    e: bytes("e")?,
                };
                // Most issuers leave `alg` out, and mean this one.
                (Algorithm::Rs256, &OTHERS_OF_RSA, rsa)
            }
            "EC" => {
                let (algorithm, size) = match text("crv")? {
                    "P-256" => (Algorithm::Es256, 32),
                    "P-384" => (Algorithm::Es384, 48),
                    "P-521" => (Algorithm::Es512, 66),
                    _ => return None,
                };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != size || y.len() != size {
                    return None;
                }
                let point = [&[4][..], &x, &y].concat();
                (algorithm, &[], PublicKey::Ec(point))
            }
            "OKP" if text("crv")? == "Ed25519" => {
                let x = bytes("x").filter(|x| x.len() == 32)?;
                (Algorithm::EdDsa, &[], PublicKey::Ed25519(x))
            }
            _ => return None,
        };
        let algorithm = match member(key, "alg") {
            None => usual,
            Some(name) => {
                let named = Algorithm::named(name.as_text()?)?;
                if named != usual && !others.contains(&named) {
                    return None;
                }
                named
            }
        };
        Some(Self {
            id,
            algorithm,
            public,
        })
    }
}

/// Smaller ones can be broken (RFC 7518 section 3.3), and larger ones take long.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

const OTHERS_OF_RSA: [Algorithm; 5] = [
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];

impl<V> KeySet<V> {
    /// The keys of a set; `ready` makes each ready to verify, or says that it is of no use.
    pub fn parse(text: &[u8], ready: impl Fn(&Key) -> Option<V>) -> Result<Self, KeySetError> {
        let keys = Key::parse_set(text)?;
        let keys = keys.into_iter().filter_map(|key| {
            let ready = ready(&key)?;
            Some((key, ready))
        });
        let keys: Box<[_]> = keys.collect();
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable);
        }
        Ok(Self(keys))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none, which does not happen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that may have signed a token with this header, as far as its algorithm and its name go.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<impl Iterator<Item = &V>, super::Invalid> {
        let of_algorithm = move |key: &Key| key.algorithm == algorithm;
        if !self.0.iter().any(|(key, _)| of_algorithm(key)) {
            return Err(super::Invalid::Algorithm);
        }
        // A key without a name may be anyone's; it has to prove itself all the same.
        let named = move |key: &Key| match (&key.id, id) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        let may_be = move |(key, _): &&(Key, V)| of_algorithm(key) && named(key);
        let count = self.0.iter().filter(may_be).count();
        // Each try costs time that a stranger would spend.
        if count == 0 || count > limits::KEY_TRIES_MAX {
            return Err(super::Invalid::UnknownKey);
        }
        Ok(self.0.iter().filter(may_be).map(|(_, ready)| ready))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<Algorithm>, KeySetError> {
        let keys = Key::parse_set(text.as_bytes())?;
        Ok(keys.into_iter().map(|key| key.algorithm).collect())
    }

    fn ec(more: &str) -> String {
        let coordinate = "A".repeat(43);
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{coordinate}","y":"{coordinate}"{more}}}"#)
    }

    #[test]
    fn each_key_has_one_algorithm() {
        let n = "A".repeat(342);
        let rsa = format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#);
        let pss = format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","alg":"PS384"}}"#);
        let set = format!(r#"{{"keys":[{rsa},{pss},{}]}}"#, ec(""));
        let expected = [Algorithm::Rs256, Algorithm::Ps384, Algorithm::Es256];
        assert_eq!(keys(&set).unwrap(), expected);
    }

    /// RFC 7517 section 5: keys that are not understood are ignored.
    #[test]
    fn keys_that_are_for_something_else_are_left_out() {
        for other in [
            ec(r#","use":"enc""#),
            ec(r#","use":1"#),
            ec(r#","key_ops":["sign"]"#),
            ec(r#","key_ops":"verify""#),
            ec(r#","alg":"ES384""#),
            ec(r#","alg":"HS256""#),
            ec(r#","alg":"none""#),
            ec(r#","kid":7"#),
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(),
            r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.to_owned(),
            format!(
                r#"{{"kty":"RSA","n":"{}","e":"AQAB","alg":"ES256"}}"#,
                "A".repeat(342)
            ),
            // 1,024 bits.
            format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, "A".repeat(171)),
            r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.to_owned(),
            r#"{"kty":"PQC"}"#.to_owned(),
            "{}".to_owned(),
        ] {
            let set = format!(r#"{{"keys":[{other}]}}"#);
            assert_eq!(keys(&set), Ok(Vec::new()), "{other}");
        }
        let signs = ec(r#","use":"sig","key_ops":["verify","encrypt"]"#);
        let set = format!(r#"{{"keys":[{signs}]}}"#);
        assert_eq!(keys(&set), Ok(vec![Algorithm::Es256]));
    }

    #[test]
    fn what_is_no_set_of_public_keys_is_refused_whole() {
        let private = format!(r#"{{"keys":[{},{}]}}"#, ec(""), ec(r#","d":"AA""#));
        assert_eq!(keys(&private), Err(KeySetError::Private(2)));
        let secret = r#"{"keys":[{"kty":"oct","k":"AA"}]}"#;
        assert_eq!(keys(secret), Err(KeySetError::Private(1)));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":[1]}"#,
            r#"{"keys":[],"keys":[]}"#,
        ] {
            assert_eq!(keys(bad), Err(KeySetError::Malformed), "{bad}");
        }
        let many = vec!["{}"; limits::KEYS_MAX + 1].join(",");
        let many = format!(r#"{{"keys":[{many}]}}"#);
        assert_eq!(keys(&many), Err(KeySetError::TooManyKeys));
        let large = " ".repeat(limits::KEY_SET_BYTES_MAX + 1);
        assert_eq!(keys(&large), Err(KeySetError::TooLarge));
        let none = KeySet::<()>::parse(br#"{"keys":[]}"#, |_| Some(()));
        assert_eq!(none.map(|_| ()), Err(KeySetError::NoneUsable));
    }
}
