//! Statements: what is signed, with its scope. Sealing makes an envelope; verifying takes one apart
//! in an order that leaves nothing to chance: payload type, size, signatures of the expected role,
//! format, features, canonical form, scope, and only then the body.

use std::collections::BTreeSet;

use prost::Message;

use crate::canonical::{self, NonCanonical, Wire, ascending, required, text};
use crate::digest::Digest;
use crate::envelope::{Envelope, PayloadType, too_large};
use crate::key::{KeyId, PublicKey, SigningKey};
use crate::limits;
use crate::messages::bundle as wire;
use crate::reject::{RejectReason, Rejection};
use crate::scope::Scope;

/// Format of the statements of this release.
pub const STATEMENT_FORMAT: u32 = 1;

/// Features of statements that this release has.
const SUPPORTED: &[&str] = &[];

/// A value that was signed by enough keys of the role that may state it. Only the verifying
/// functions of [`crate::trust_root::TrustRoot`] make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    digest: Digest,
    signers: BTreeSet<KeyId>,
}

impl<T> Verified<T> {
    /// What was stated.
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// SHA-256 of the statement's payload: its identity.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The keys of the role whose signatures verified.
    pub const fn signers(&self) -> &BTreeSet<KeyId> {
        &self.signers
    }

    /// What was stated, without the proof of it.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A value that can be the body of a statement.
pub(crate) trait Statement: Sized {
    const TYPE: PayloadType;

    /// Canonical bytes of the body.
    fn body(&self) -> Vec<u8>;

    /// The value of a body that was stated for this scope.
    fn from_body(scope: &Scope, body: &[u8]) -> Result<Self, Rejection>;
}

/// The keys of a role, and how many of them it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signers<'a> {
    pub(crate) keys: &'a [PublicKey],
    pub(crate) threshold: usize,
}

/// The payload that states this value.
pub(crate) fn payload<T: Statement>(value: &T, scope: &Scope) -> Vec<u8> {
    canonical::encode(&Frame {
        scope: scope.clone(),
        required_features: Vec::new(),
        body: value.body(),
    })
}

/// States a value.
pub(crate) fn seal<T: Statement>(value: &T, scope: &Scope, keys: &[&SigningKey]) -> Envelope {
    Envelope::sign(T::TYPE, payload(value, scope), keys)
}

/// Takes a statement whose signers were judged. Scope `None` is for a pinned trust root, which says
/// what the scope is.
pub(crate) fn open<T: Statement>(
    envelope: &Envelope,
    scope: Option<&Scope>,
    signers: BTreeSet<KeyId>,
) -> Result<Verified<T>, Rejection> {
    let frame = open_frame(envelope.payload())?;
    if let Some(scope) = scope {
        scope.expect(&frame.scope)?;
    }
    Ok(Verified {
        value: T::from_body(&frame.scope, &frame.body)?,
        digest: envelope.payload_digest(),
        signers,
    })
}

/// Verifies signatures, then takes the statement.
pub(crate) fn verify<T: Statement>(
    envelope: &Envelope,
    scope: &Scope,
    role: Signers<'_>,
) -> Result<Verified<T>, Rejection> {
    expect_type(envelope, T::TYPE)?;
    let signers = judge_signatures(envelope, role)?;
    open(envelope, Some(scope), signers)
}

/// Refuses an envelope of another type, or too large.
pub(crate) fn expect_type(envelope: &Envelope, expected: PayloadType) -> Result<(), Rejection> {
    if envelope.payload_type() != expected {
        return Err(Rejection::new(
            RejectReason::NonCanonical,
            format!(
                "payload type is {}, expected {}",
                envelope.payload_type().as_str(),
                expected.as_str()
            ),
        ));
    }
    if envelope.payload().len() > limits::PAYLOAD_BYTES_MAX {
        return Err(too_large(
            "payload",
            envelope.payload().len(),
            limits::PAYLOAD_BYTES_MAX,
        ));
    }
    Ok(())
}

/// The distinct keys of the role that signed, if they reach its threshold.
pub(crate) fn judge_signatures(
    envelope: &Envelope,
    role: Signers<'_>,
) -> Result<BTreeSet<KeyId>, Rejection> {
    if envelope.signatures().is_empty() {
        return Err(Rejection::new(
            RejectReason::Unsigned,
            "the envelope has no signature",
        ));
    }
    let signed = envelope.signed_bytes();
    let distinct: BTreeSet<_> = role.keys.iter().collect();
    let signers: BTreeSet<_> = distinct
        .into_iter()
        .filter(|key| {
            let mut signatures = envelope.signatures().iter();
            signatures.any(|signature| key.verify(&signed, signature).is_ok())
        })
        .map(PublicKey::id)
        .collect();
    if signers.is_empty() {
        return Err(Rejection::new(
            RejectReason::UnknownSigner,
            "no signature is by a key that may state this",
        ));
    }
    if signers.len() < role.threshold.max(1) {
        return Err(Rejection::new(
            RejectReason::Threshold,
            format!("{} of {} signatures", signers.len(), role.threshold),
        ));
    }
    Ok(signers)
}

/// Refuses what another format or a missing feature makes unreadable, before it is read.
pub(crate) fn judge_features(
    what: &str,
    format: u32,
    known_format: u32,
    needed: &[String],
    supported: &[&str],
) -> Result<(), Rejection> {
    if format != known_format {
        return Err(Rejection::new(
            RejectReason::UnknownFeature,
            format!("{what} format {format}, this release has {known_format}"),
        ));
    }
    if let Some(missing) = needed
        .iter()
        .find(|name| !supported.contains(&name.as_str()))
    {
        return Err(Rejection::missing_feature(what, missing));
    }
    Ok(())
}

/// What is read of a statement before anything else; every format keeps these two fields.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, repeated, tag = "3")]
    required_features: Vec<String>,
}

/// A `Statement` message.
struct Frame {
    scope: Scope,
    required_features: Vec<String>,
    body: Vec<u8>,
}

fn open_frame(payload: &[u8]) -> Result<Frame, Rejection> {
    let header: Header = canonical::decode_message("statement", payload)?;
    judge_features(
        "statement",
        header.format,
        STATEMENT_FORMAT,
        &header.required_features,
        SUPPORTED,
    )?;
    canonical::decode("statement", payload)
}

impl Wire for Frame {
    type Message = wire::Statement;

    fn to_message(&self) -> wire::Statement {
        wire::Statement {
            format: STATEMENT_FORMAT,
            scope: Some(self.scope.to_message()),
            required_features: canonical::set(&self.required_features),
            body: self.body.clone(),
        }
    }

    fn from_message(message: wire::Statement) -> Result<Self, NonCanonical> {
        ascending(
            "statement.required_features",
            &message.required_features,
            limits::FEATURES_MAX,
            |a, b| a < b,
        )?;
        Ok(Self {
            scope: Scope::from_message(required("statement.scope", message.scope)?)?,
            required_features: message
                .required_features
                .into_iter()
                .map(|name| text("statement.required_features", name, limits::NAME_BYTES_MAX))
                .collect::<Result<_, _>>()?,
            body: message.body,
        })
    }
}
