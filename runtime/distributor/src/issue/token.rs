//! Join tokens: each admits one identity once. What is kept of a token is its public key; the seed
//! leaves in the join file and is never seen again.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_bundle::digest::Digest;
use mesh_bundle::key::PublicKey;
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::rpc::{Exporter, enrolment_message};
use serde::{Deserialize, Serialize};

use crate::issue::certificate::EnrolmentId;
use crate::limits;

/// Every token that has not expired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    tokens: BTreeMap<String, Token>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    /// Hexadecimal.
    public_key: String,
    identity: String,
    expires_ms: u64,
    /// Digest of the public key that it was used for.
    used_for: Option<String>,
    enrolment: String,
}

/// A proxy's wish to enrol, and what its connection proves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Enrolment<'a> {
    /// Which token.
    pub(crate) token_id: &'a str,
    /// PKCS#10, DER.
    pub(crate) csr: &'a [u8],
    /// Digest of the public key in `csr`.
    pub(crate) csr_key: Digest,
    /// Keying material exported from this TLS connection: a signature is worth nothing on another.
    pub(crate) exporter: &'a Exporter,
    /// By the token's key.
    pub(crate) signature: &'a [u8],
}

/// What a token admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Who the proxy will be.
    pub(crate) identity: SpiffeId,
    /// Names the enrolment in certificates, logs and revocations.
    pub(crate) enrolment: EnrolmentId,
}

/// Why a token was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CreateError {
    /// Too many unexpired tokens.
    #[error("there are {} unexpired join tokens already", limits::JOIN_TOKENS_MAX)]
    TooMany,
    /// Longer than tokens may live.
    #[error("a join token lives between 1 s and {} s", limits::JOIN_TOKEN_LIFE_MAX.as_secs())]
    Life,
}

/// Why an enrolment was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnrolError {
    /// No such token, or it expired so long ago that it was forgotten.
    #[error("unknown join token")]
    Unknown,
    /// Its time is over.
    #[error("join token has expired")]
    Expired,
    /// Not signed by the token's key over this request on this connection.
    #[error("signature is not the join token's over this request on this connection")]
    Signature,
    /// Already used for another key.
    #[error("join token was used for another key")]
    Used,
}

impl Tokens {
    /// Remembers a new token.
    pub(crate) fn create(
        &mut self,
        id: &str,
        public_key: &PublicKey,
        admission: &Admission,
        life: Duration,
        now_ms: u64,
    ) -> Result<u64, CreateError> {
        if life < Duration::from_secs(1) || life > limits::JOIN_TOKEN_LIFE_MAX {
            return Err(CreateError::Life);
        }
        self.forget_expired(now_ms);
        if self.tokens.len() >= limits::JOIN_TOKENS_MAX {
            return Err(CreateError::TooMany);
        }
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = now_ms.saturating_add(life_ms);
        let token = Token {
            public_key: hex::encode(public_key.as_bytes()),
            identity: admission.identity.to_string(),
            expires_ms,
            used_for: None,
            enrolment: hex::encode(admission.enrolment.0),
        };
        self.tokens.insert(id.to_owned(), token);
        Ok(expires_ms)
    }

    /// Judges an enrolment and binds the token to its key. Asking again with the same key gives the
    /// same answer until the token expires, because the first answer may have been lost.
    pub(crate) fn admit(
        &mut self,
        enrolment: &Enrolment<'_>,
        now_ms: u64,
    ) -> Result<Admission, EnrolError> {
        let token = self.find(enrolment.token_id)?;
        if now_ms >= token.expires_ms {
            return Err(EnrolError::Expired);
        }
        let signed = enrolment_message(enrolment.csr, enrolment.exporter);
        let key = hex::decode(&token.public_key)
            .ok()
            .and_then(|key| PublicKey::from_bytes(&key).ok());
        // The file of tokens is ours; a key in it that is none admits nobody.
        if key.is_none_or(|key| key.verify(&signed, enrolment.signature).is_err()) {
            return Err(EnrolError::Signature);
        }
        let identity = SpiffeId::parse(&token.identity).map_err(|_not_ours| EnrolError::Unknown)?;
        let mut enrolment_id = [0; 8];
        hex::decode_to_slice(&token.enrolment, &mut enrolment_id)
            .map_err(|_not_ours| EnrolError::Unknown)?;
        let csr_key = hex::encode(enrolment.csr_key.as_bytes());
        match &token.used_for {
            Some(used_for) if *used_for != csr_key => return Err(EnrolError::Used),
            Some(_) => {}
            None => token.used_for = Some(csr_key),
        }
        Ok(Admission {
            identity,
            enrolment: EnrolmentId(enrolment_id),
        })
    }

    fn find(&mut self, id: &str) -> Result<&mut Token, EnrolError> {
        if id.len() > limits::TOKEN_ID_BYTES_MAX {
            return Err(EnrolError::Unknown);
        }
        self.tokens.get_mut(id).ok_or(EnrolError::Unknown)
    }

    fn forget_expired(&mut self, now_ms: u64) {
        self.tokens.retain(|_id, token| now_ms < token.expires_ms);
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::key::SigningKey;

    use super::*;

    const NOW: u64 = 1_000_000;
    const LIFE: Duration = Duration::from_mins(1);

    struct Proxy {
        token: SigningKey,
        csr: Vec<u8>,
        exporter: Exporter,
    }

    impl Proxy {
        fn new() -> Self {
            Self {
                token: SigningKey::from_seed([7; 32]),
                csr: b"request".to_vec(),
                exporter: [9; 32],
            }
        }

        fn enrol(
            &self,
            tokens: &mut Tokens,
            id: &str,
            now_ms: u64,
        ) -> Result<Admission, EnrolError> {
            let signature = self.token.sign(&enrolment_message(&self.csr, &[9; 32]));
            let enrolment = Enrolment {
                token_id: id,
                csr: &self.csr,
                csr_key: Digest::of(&self.csr),
                exporter: &self.exporter,
                signature: &signature,
            };
            tokens.admit(&enrolment, now_ms)
        }
    }

    fn admission() -> Admission {
        Admission {
            identity: SpiffeId::parse("spiffe://test.example/service/a").unwrap(),
            enrolment: EnrolmentId([3; 8]),
        }
    }

    fn tokens(proxy: &Proxy) -> Tokens {
        let mut tokens = Tokens::default();
        let expires = tokens
            .create("t1", &proxy.token.public(), &admission(), LIFE, NOW)
            .unwrap();
        assert_eq!(expires, NOW + 60_000);
        tokens
    }

    #[test]
    fn a_token_admits_its_identity() {
        let proxy = Proxy::new();
        assert_eq!(proxy.enrol(&mut tokens(&proxy), "t1", NOW), Ok(admission()));
    }

    #[test]
    fn the_same_key_may_ask_again_and_no_other() {
        let mut proxy = Proxy::new();
        let mut tokens = tokens(&proxy);
        assert_eq!(proxy.enrol(&mut tokens, "t1", NOW), Ok(admission()));
        assert_eq!(proxy.enrol(&mut tokens, "t1", NOW + 1), Ok(admission()));
        proxy.csr = b"another request".to_vec();
        assert_eq!(
            proxy.enrol(&mut tokens, "t1", NOW + 2),
            Err(EnrolError::Used)
        );
    }

    #[test]
    fn expiry_is_exact() {
        let proxy = Proxy::new();
        let mut tokens = tokens(&proxy);
        assert_eq!(
            proxy.enrol(&mut tokens, "t1", NOW + 59_999),
            Ok(admission())
        );
        assert_eq!(
            proxy.enrol(&mut tokens, "t1", NOW + 60_000),
            Err(EnrolError::Expired)
        );
    }

    #[test]
    fn a_signature_is_worth_nothing_on_another_connection_or_from_another_key() {
        let mut proxy = Proxy::new();
        let mut tokens = tokens(&proxy);
        proxy.exporter = [8; 32];
        assert_eq!(
            proxy.enrol(&mut tokens, "t1", NOW),
            Err(EnrolError::Signature)
        );
        proxy.exporter = [9; 32];
        proxy.token = SigningKey::from_seed([8; 32]);
        assert_eq!(
            proxy.enrol(&mut tokens, "t1", NOW),
            Err(EnrolError::Signature)
        );
        assert_eq!(
            proxy.enrol(&mut tokens, "t2", NOW),
            Err(EnrolError::Unknown)
        );
    }

    #[test]
    fn a_refused_attempt_uses_nothing_up() {
        let mut proxy = Proxy::new();
        let mut tokens = tokens(&proxy);
        let mut thief = Proxy::new();
        thief.token = SigningKey::from_seed([8; 32]);
        thief.csr = b"thief".to_vec();
        assert_eq!(
            thief.enrol(&mut tokens, "t1", NOW),
            Err(EnrolError::Signature)
        );
        proxy.csr = b"mine".to_vec();
        assert_eq!(proxy.enrol(&mut tokens, "t1", NOW), Ok(admission()));
    }

    #[test]
    fn lives_are_bounded_and_the_dead_are_forgotten() {
        let proxy = Proxy::new();
        let mut tokens = tokens(&proxy);
        let mut create = |id: &str, life, now_ms| {
            tokens.create(id, &proxy.token.public(), &admission(), life, now_ms)
        };
        assert_eq!(
            create("t2", Duration::from_secs(601), NOW),
            Err(CreateError::Life)
        );
        assert_eq!(create("t2", Duration::ZERO, NOW), Err(CreateError::Life));
        assert!(create("t2", LIFE, NOW + 60_000).is_ok());
        assert_eq!(
            proxy.enrol(&mut tokens, "t1", NOW + 60_000),
            Err(EnrolError::Unknown)
        );
    }

    #[test]
    fn use_outlives_a_restart() {
        let mut proxy = Proxy::new();
        let mut tokens = tokens(&proxy);
        proxy.enrol(&mut tokens, "t1", NOW).unwrap();
        let stored = serde_json::to_string(&tokens).unwrap();
        assert!(!stored.contains("seed"));
        let mut restored: Tokens = serde_json::from_str(&stored).unwrap();
        proxy.csr = b"another request".to_vec();
        assert_eq!(proxy.enrol(&mut restored, "t1", NOW), Err(EnrolError::Used));
    }
}
