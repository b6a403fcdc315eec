//! DSSE envelopes: a payload and signatures over PAE(payload type, payload).
//!
//! An envelope names no keys. Its digest is that of the payload, so that adding a signature does not
//! change what it says. Signatures are strictly ascending by their bytes, at most sixteen.

use crate::canonical::{self, NonCanonical, Wire, ascending, invalid};
use crate::digest::Digest;
use crate::key::{SIGNATURE_BYTES, SigningKey};
use crate::limits::{ENVELOPE_BYTES_MAX, PAYLOAD_BYTES_MAX, SIGNATURES_MAX};
use crate::messages::bundle as wire;
use crate::reject::{RejectReason, Rejection};

/// PAE type of what a join token's key signs to enrol. No envelope has it.
pub const ENROLMENT_TYPE: &str = "application/vnd.mesh.enrolment.v1";
/// PAE type of what a proxy's own key signs over its status. No envelope has it.
pub const STATUS_TYPE: &str = "application/vnd.mesh.status.v1";

/// What the payload of an envelope states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PayloadType {
    /// [`crate::generation::Generation`].
    Generation,
    /// [`crate::head::Head`].
    Head,
    /// [`crate::trust_root::TrustRoot`].
    TrustRoot,
    /// [`crate::trust_bundle::TrustBundle`].
    TrustBundle,
    /// [`crate::revocations::Revocations`].
    Revocations,
}

impl PayloadType {
    /// Every type.
    pub const ALL: [Self; 5] = [
        Self::Generation,
        Self::Head,
        Self::TrustRoot,
        Self::TrustBundle,
        Self::Revocations,
    ];

    /// The media type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generation => "application/vnd.mesh.generation.v1",
            Self::Head => "application/vnd.mesh.head.v1",
            Self::TrustRoot => "application/vnd.mesh.trust-root.v1",
            Self::TrustBundle => "application/vnd.mesh.trust-bundle.v1",
            Self::Revocations => "application/vnd.mesh.revocations.v1",
        }
    }
}

/// DSSE's pre-authentication encoding: the bytes that are signed.
///
/// `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`, lengths in decimal
/// (<https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md>).
pub fn pae(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A payload and its signatures, none of them verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    payload_type: PayloadType,
    payload: Vec<u8>,
    /// Strictly ascending.
    signatures: Vec<[u8; SIGNATURE_BYTES]>,
}

impl Envelope {
    /// Signs a payload with each of these keys, at most [`SIGNATURES_MAX`] of them; no threshold
    /// asks for more.
    pub fn sign(payload_type: PayloadType, payload: Vec<u8>, keys: &[&SigningKey]) -> Self {
        let mut envelope = Self {
            payload_type,
            payload,
            signatures: Vec::new(),
        };
        for key in keys.iter().take(SIGNATURES_MAX) {
            envelope.insert(key);
        }
        envelope
    }

    /// Adds the signature of one more key; signing twice with one key changes nothing.
    pub fn add_signature(&mut self, key: &SigningKey) -> Result<(), Rejection> {
        self.insert(key);
        if self.signatures.len() > SIGNATURES_MAX {
            return Err(Rejection::new(
                RejectReason::TooLarge,
                format!("more than {SIGNATURES_MAX} signatures"),
            ));
        }
        Ok(())
    }

    fn insert(&mut self, key: &SigningKey) {
        let signature = key.sign(&self.signed_bytes());
        if let Err(place) = self.signatures.binary_search(&signature) {
            self.signatures.insert(place, signature);
        }
    }

    /// The envelope of which these are the canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(too_large("envelope", bytes.len(), ENVELOPE_BYTES_MAX));
        }
        canonical::decode("envelope", bytes)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// What the payload states, by the envelope's word.
    pub const fn payload_type(&self) -> PayloadType {
        self.payload_type
    }

    /// The payload, canonical bytes of a `Statement`.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// SHA-256 of the payload: the identity of the statement.
    pub fn payload_digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The signatures, ascending.
    pub fn signatures(&self) -> &[[u8; SIGNATURE_BYTES]] {
        &self.signatures
    }

    /// What each signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        pae(self.payload_type.as_str(), &self.payload)
    }
}

impl Wire for Envelope {
    type Message = wire::Envelope;

    fn to_message(&self) -> wire::Envelope {
        wire::Envelope {
            payload_type: self.payload_type.as_str().to_owned(),
            payload: self.payload.clone(),
            signatures: self
                .signatures
                .iter()
                .map(|signature| wire::Signature {
                    signature: signature.to_vec(),
                })
                .collect(),
        }
    }

    fn from_message(message: wire::Envelope) -> Result<Self, NonCanonical> {
        ascending(
            "envelope.signatures",
            &message.signatures,
            SIGNATURES_MAX,
            |a, b| a.signature < b.signature,
        )?;
        let payload_type = PayloadType::ALL
            .into_iter()
            .find(|known| known.as_str() == message.payload_type)
            .ok_or_else(|| invalid("envelope.payload_type", "unknown"))?;
        Ok(Self {
            payload_type,
            payload: message.payload,
            signatures: message
                .signatures
                .iter()
                .map(|entry| canonical::array("envelope.signatures", &entry.signature))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<wire::Envelope> for Envelope {
    type Error = Rejection;

    fn try_from(message: wire::Envelope) -> Result<Self, Rejection> {
        if message.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(too_large(
                "payload",
                message.payload.len(),
                PAYLOAD_BYTES_MAX,
            ));
        }
        Ok(Self::from_message(message)?)
    }
}

impl From<&Envelope> for wire::Envelope {
    fn from(envelope: &Envelope) -> Self {
        envelope.to_message()
    }
}

pub(crate) fn too_large(what: &str, bytes: usize, bytes_max: usize) -> Rejection {
    Rejection::new(
        RejectReason::TooLarge,
        format!("{what} of {bytes} bytes, at most {bytes_max}"),
    )
}
