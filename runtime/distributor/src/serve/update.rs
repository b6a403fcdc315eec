//! A generation for one proxy: its slice in the shortest form that it can use, and the proof that
//! the slice is the generation's.

use std::sync::Arc;

use mesh_bundle::digest::Digest;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::messages::distribution::generation_update::Slice as Form;
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::rpc::compression;

use crate::generation::{Served, ServedSlice};

/// Why an update could not be made; a fault of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    /// There is no generation.
    #[error("no generation is served")]
    Nothing,
    /// The tree neither has the identity nor lacks it.
    #[error("the generation's tree proves neither presence nor absence")]
    Proof,
    /// Compression failed.
    #[error("could not compress a slice")]
    Compress(#[source] std::io::Error),
}

/// The newest of these generations (oldest first) for one identity.
pub(crate) fn update(
    generations: &[Arc<Served>],
    identity: &SpiffeId,
    held: &[Digest],
) -> Result<wire::GenerationUpdate, UpdateError> {
    let (current, earlier) = generations.split_last().ok_or(UpdateError::Nothing)?;
    let generation = Some(current.envelope().clone());
    let Some(slice) = current.slices().get(identity) else {
        let absent = current
            .tree()
            .prove_absent(identity)
            .ok_or(UpdateError::Proof)?;
        return Ok(wire::GenerationUpdate {
            generation,
            slice: Some(Form::Absent((&absent).into())),
            proof: None,
        });
    };
    let proof = current.tree().prove(identity).ok_or(UpdateError::Proof)?;
    let form = form(slice, earlier, identity, held)?;
    Ok(wire::GenerationUpdate {
        generation,
        slice: Some(form),
        proof: Some((&proof).into()),
    })
}

fn form(
    slice: &ServedSlice,
    earlier: &[Arc<Served>],
    identity: &SpiffeId,
    held: &[Digest],
) -> Result<Form, UpdateError> {
    if held.contains(&slice.digest()) {
        return Ok(Form::Same(wire::SliceSame {
            digest: slice.digest().as_bytes().to_vec(),
        }));
    }
    let full = slice.compressed().map_err(UpdateError::Compress)?;
    let base = earlier
        .iter()
        .rev()
        .filter_map(|served| served.slices().get(identity))
        .find(|base| held.contains(&base.digest()));
    if let Some(base) = base {
        let delta = compression::compress_delta(base.bytes(), slice.bytes())
            .map_err(UpdateError::Compress)?;
        if delta.len() < full.len() {
            let base = base.digest().as_bytes().to_vec();
            return Ok(Form::Delta(wire::SliceDelta {
                base,
                compressed: delta,
            }));
        }
    }
    Ok(Form::Full(wire::SliceFull {
        compressed: full.to_vec(),
    }))
}
