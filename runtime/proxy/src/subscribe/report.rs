//! What the proxy says on the stream: a hello, heartbeats, and its status, signed with the key of the
//! certificate that the stream was opened with.

use std::sync::Arc;

use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::STATUS_TYPE;
use mesh_bundle::head::GenerationRef;
use mesh_bundle::messages::bundle as wire;
use mesh_bundle::messages::distribution::follow_request::Kind;
use mesh_bundle::messages::distribution::{
    FollowRequest, Hello, Phase, ProxyHeartbeat, ResendSlice, SignedStatus, Status,
};
use mesh_bundle::reject::Rejection;
use mesh_bundle::slice::Label;
use mesh_daemon::identity::Svid;
use prost::Message;
use tokio::sync::mpsc;

use super::belief::Belief;

/// An open stream, as far as sending goes.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<FollowRequest>,
    svid: Arc<Svid>,
}

impl Outbox {
    /// For a stream that was opened with this certificate.
    pub(crate) fn new(sender: mpsc::Sender<FollowRequest>, svid: Arc<Svid>) -> Self {
        Self { sender, svid }
    }

    /// Sends; whether the stream still takes it. One that does not is stuck or gone.
    #[must_use]
    pub(crate) fn send(&self, kind: Kind) -> bool {
        self.sender
            .try_send(FollowRequest { kind: Some(kind) })
            .is_ok()
    }

    /// Signs and sends.
    #[must_use]
    pub(crate) fn send_status(&self, status: &Status) -> bool {
        let status = status.encode_to_vec();
        match self.svid.key().sign(STATUS_TYPE, &status) {
            Ok(signature) => self.send(Kind::Status(SignedStatus { status, signature })),
            Err(error) => {
                tracing::warn!(%error, "could not sign a status");
                true
            }
        }
    }
}

/// The first message of a stream.
pub(crate) fn hello(belief: &Belief, instance: &str, labels: &[Label]) -> Kind {
    let acceptance = belief.acceptance();
    let confirmed = acceptance.confirmed();
    let commit = confirmed
        .and_then(|confirmed| acceptance.generation(&confirmed))
        .map(|generation| generation.commit.as_bytes().to_vec());
    Kind::Hello(Hello {
        scope: Some((&belief.contents().scope).into()),
        instance: instance.to_owned(),
        labels: labels
            .iter()
            .map(|label| wire::Label {
                key: label.key.clone(),
                value: label.value.clone(),
            })
            .collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features: mesh_bundle::feature::SUPPORTED
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        trust_root_version: acceptance.trust_root().version,
        head_issued_ms: acceptance.head_issued_ms(),
        confirmed: confirmed.map(|confirmed| confirmed.order.into()),
        confirmed_commit: commit.unwrap_or_default(),
        held_slices: belief
            .held_slices()
            .iter()
            .map(|digest| digest.as_bytes().to_vec())
            .collect(),
    })
}

/// What is being served.
pub(crate) fn heartbeat(
    generation: Option<GenerationRef>,
    slice: Option<Digest>,
    endpoints_version: u64,
    trust_bundle_version: u64,
) -> Kind {
    let bytes = |digest: Digest| digest.as_bytes().to_vec();
    Kind::Heartbeat(ProxyHeartbeat {
        generation: generation.map(|it| bytes(it.digest)).unwrap_or_default(),
        slice: slice.map(bytes).unwrap_or_default(),
        endpoints_version,
        trust_bundle_version,
    })
}

/// Asks for a slice as a whole.
pub(crate) fn resend(generation: Digest) -> Kind {
    Kind::ResendSlice(ResendSlice {
        generation: generation.as_bytes().to_vec(),
    })
}

/// A step that a generation has taken.
pub(crate) fn status(
    phase: Phase,
    generation: wire::GenerationRef,
    slice: Option<Digest>,
    at_ms: u64,
) -> Status {
    Status {
        phase: phase.into(),
        generation: Some(generation),
        slice: slice
            .map(|digest| digest.as_bytes().to_vec())
            .unwrap_or_default(),
        at_ms,
        ..Status::default()
    }
}

/// A generation that was refused.
pub(crate) fn rejected(
    generation: wire::GenerationRef,
    rejection: &Rejection,
    at_ms: u64,
) -> Status {
    Status {
        reason: rejection.name(),
        detail: rejection.detail().to_owned(),
        ..status(Phase::Rejected, generation, None, at_ms)
    }
}
