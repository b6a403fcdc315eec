//! Public keys of token providers, ready to verify. Which algorithm a key is for, the engine has settled; nothing here
//! is chosen by a token.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, VerificationAlgorithm,
};
use mesh_engine::jwt::{Algorithm, Key, KeySet, KeySetError, PublicKey, VerifyingKey};

/// The keys of a provider.
pub(crate) type Keys = KeySet<Ready>;

/// A key that is ready to verify.
#[derive(Clone, Debug)]
pub(crate) struct Ready(ParsedPublicKey);

impl VerifyingKey for Ready {
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

/// Reads a JSON Web Key Set. Keys that are on no curve, or too small, are left out.
pub(crate) fn read(text: &[u8]) -> Result<Keys, KeySetError> {
    Keys::parse(text, ready)
}

fn ready(key: &Key) -> Option<Ready> {
    let parsed = match &key.public {
        PublicKey::Rsa { n, e } => {
            let parameters = rsa(key.algorithm)?;
            PublicKeyComponents { n, e }.to_parsed_public_key(parameters)
        }
        PublicKey::Ec(point) => ParsedPublicKey::new(ec(key.algorithm)?, point),
        PublicKey::Ed25519(bytes) => ParsedPublicKey::new(&ED25519, bytes),
    };
    parsed.ok().map(Ready)
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::EdDsa => return None,
    })
}

fn ec(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &ECDSA_P521_SHA512_FIXED,
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    };
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use mesh_bundle::slice::{Jwks, JwtProvider};
    use mesh_engine::jwt;

    use super::*;

    /// Whoever issues tokens.
    pub(crate) struct Issuer {
        key: EcdsaKeyPair,
        /// Name of its key.
        pub(crate) id: &'static str,
    }

    impl Issuer {
        pub(crate) fn new(id: &'static str) -> Self {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            Self { key, id }
        }

        /// Its key as a member of a set.
        pub(crate) fn jwk(&self) -> String {
            let point = self.key.public_key().as_ref();
            let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
            let id = self.id;
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","kid":"{id}"}}"#)
        }

        /// The set with its key alone.
        pub(crate) fn jwks(&self) -> Vec<u8> {
            format!(r#"{{"keys":[{}]}}"#, self.jwk()).into_bytes()
        }

        /// A token with this header and these claims.
        pub(crate) fn sign_with(&self, header: &str, claims: &str) -> String {
            sign(header, claims, |message| {
                let signed = self.key.sign(&SystemRandom::new(), message);
                signed.unwrap().as_ref().to_vec()
            })
        }

        /// A token with these claims.
        pub(crate) fn sign(&self, claims: &str) -> String {
            let id = self.id;
            self.sign_with(&format!(r#"{{"alg":"ES256","kid":"{id}"}}"#), claims)
        }
    }

    pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn sign(header: &str, claims: &str, by: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = encode(by(message.as_bytes()));
        format!("{message}.{signature}")
    }

    const CLAIMS: &str = r#"{"iss":"i","exp":2000}"#;

    #[track_caller]
    fn check(jwk: &str, algorithm: &str, by: impl Fn(&[u8]) -> Vec<u8>) {
        let keys = read(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap();
        let provider = JwtProvider {
            name: "p".to_owned(),
            issuer: "i".to_owned(),
            audiences: Vec::new(),
            jwks: Jwks::Inline(Vec::new()),
            locations: Vec::new(),
            forwards: Vec::new(),
        };
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        let good = sign(&header, CLAIMS, &by);
        let judge = |token: &str| jwt::verify(&provider, token.as_bytes(), Some(&keys), 1000);
        assert!(judge(&good).is_ok(), "{algorithm}");
        let other = sign(&header, CLAIMS, |_| by(b"something else"));
        assert_eq!(judge(&other), Err(jwt::Invalid::Signature), "{algorithm}");
        let empty = sign(&header, CLAIMS, |_| Vec::new());
        assert_eq!(judge(&empty), Err(jwt::Invalid::Signature), "{algorithm}");
    }

    #[test]
    fn every_kind_of_key_verifies_what_it_signed() {
        let random = SystemRandom::new();
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = key.public_key();
        let (n, e) = (public.modulus(), public.exponent());
        let rsa = |alg: &str| {
            let n = encode(n.big_endian_without_leading_zero());
            let e = encode(e.big_endian_without_leading_zero());
            format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"{alg}}}"#)
        };
        let by = |encoding: &'static dyn RsaEncoding| {
            let (key, random) = (&key, &random);
            move |message: &[u8]| {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, random, message, &mut signature).unwrap();
                signature
            }
        };
        check(&rsa(""), "RS256", by(&RSA_PKCS1_SHA256));
        check(&rsa(r#","alg":"PS512""#), "PS512", by(&RSA_PSS_SHA512));

        let issuer = Issuer::new("a");
        let signed = |message: &[u8]| issuer.key.sign(&random, message).unwrap().as_ref().to_vec();
        check(&issuer.jwk(), "ES256", signed);
        let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let point = key.public_key().as_ref();
        let (x, y) = (encode(&point[1..49]), encode(&point[49..]));
        let jwk = format!(r#"{{"kty":"EC","crv":"P-384","x":"{x}","y":"{y}"}}"#);
        let signed = |message: &[u8]| key.sign(&random, message).unwrap().as_ref().to_vec();
        check(&jwk, "ES384", signed);

        let key = Ed25519KeyPair::generate().unwrap();
        let x = encode(key.public_key());
        let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#);
        check(&jwk, "EdDSA", |message| key.sign(message).as_ref().to_vec());
    }

    #[test]
    fn a_key_on_no_curve_is_none() {
        let zeros = encode([0; 32]);
        let set =
            format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{zeros}","y":"{zeros}"}}]}}"#);
        assert_eq!(read(set.as_bytes()).unwrap_err(), KeySetError::NoneUsable);
    }
}
