//! The manifest: JSON that names files by their digests. Reading it reads them.
//!
//! A release that meets a field that it does not know refuses the store rather than boot without
//! what it means; a new field therefore comes with a new format number, and an old reader says so.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::scope::Scope;
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use super::{Confirmed, Contents, StoreError, StoredGeneration, StoredKeys};
use crate::limits::STORE_GENERATIONS_MAX;

const FORMAT: u32 = 1;

#[derive(Deserialize)]
struct Header {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    pin: String,
    mesh: String,
    environment: String,
    trust_domain: String,
    identity: String,
    addresses: Vec<String>,
    trust_roots: Vec<String>,
    trust_bundles: Vec<String>,
    revocations: Vec<String>,
    heads: Vec<String>,
    floor: Option<String>,
    confirmed: Option<ManifestConfirmed>,
    generations: Vec<ManifestGeneration>,
    svid: Option<ManifestSvid>,
    pending_key: Option<String>,
    endpoints: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestConfirmed {
    order: String,
    generation: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestGeneration {
    envelope: String,
    trust_root_version: u64,
    slice: Option<String>,
    proof: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestSvid {
    key: String,
    chain: Vec<String>,
}

/// The manifest's bytes, and the files that it names.
pub(super) fn encode(contents: &Contents) -> (Vec<u8>, BTreeMap<String, Cow<'_, [u8]>>) {
    let mut objects = Objects::default();
    let manifest = Manifest {
        format: FORMAT,
        pin: contents.pin.to_hex(),
        mesh: contents.scope.mesh.clone(),
        environment: contents.scope.environment.clone(),
        trust_domain: contents.scope.trust_domain.to_string(),
        identity: contents.identity.to_string(),
        addresses: contents.addresses.clone(),
        trust_roots: objects.envelopes(&contents.trust_roots),
        trust_bundles: objects.envelopes(&contents.trust_bundles),
        revocations: objects.envelopes(&contents.revocations),
        heads: objects.envelopes(&contents.heads),
        floor: contents.floor.map(|order| order.to_string()),
        confirmed: contents.confirmed.map(|confirmed| ManifestConfirmed {
            order: confirmed.order.to_string(),
            generation: confirmed.generation.to_hex(),
        }),
        generations: contents
            .generations
            .iter()
            .take(STORE_GENERATIONS_MAX)
            .map(|generation| objects.generation(generation))
            .collect(),
        svid: contents
            .keys
            .svid
            .as_ref()
            .map(|(key, chain)| ManifestSvid {
                key: objects.add(key),
                chain: chain.iter().map(|der| objects.add(der)).collect(),
            }),
        pending_key: contents.keys.pending.as_ref().map(|key| objects.add(key)),
        endpoints: contents.endpoints.as_ref().map(|it| objects.add(it)),
    };
    let bytes = serde_json::to_vec_pretty(&manifest).expect("strings and numbers are always JSON");
    (bytes, objects.0)
}

/// The contents, with each file that the manifest names read through `read`, and what was wrong with
/// what was left out.
pub(super) fn decode(
    bytes: &[u8],
    read: &mut dyn FnMut(Digest) -> Result<Vec<u8>, StoreError>,
) -> Result<(Contents, Vec<StoreError>), StoreError> {
    let malformed = |error: serde_json::Error| damaged("manifest", &error);
    let header: Header = serde_json::from_slice(bytes).map_err(malformed)?;
    if header.format != FORMAT {
        return Err(StoreError::Format(header.format));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(malformed)?;
    let mut files = Files(read);
    let mut generations = Vec::new();
    let mut left_out = Vec::new();
    for generation in &manifest.generations {
        match files.generation(generation) {
            Ok(generation) => generations.push(generation),
            Err(error) => left_out.push(error),
        }
    }
    let mut heads = Vec::new();
    for head in &manifest.heads {
        match files.envelope(head) {
            Ok(head) => heads.push(head),
            Err(error) => left_out.push(error),
        }
    }
    let endpoints = files
        .get_any(manifest.endpoints.as_deref())
        .unwrap_or_else(|error| {
            left_out.push(error);
            None
        });
    let contents = Contents {
        pin: digest(&manifest.pin)?,
        scope: Scope {
            mesh: manifest.mesh,
            environment: manifest.environment,
            trust_domain: TrustDomain::parse(&manifest.trust_domain)
                .map_err(|error| damaged("trust domain", &error))?,
        },
        identity: SpiffeId::parse(&manifest.identity)
            .map_err(|error| damaged("identity", &error))?,
        addresses: manifest.addresses,
        trust_roots: files.envelopes(&manifest.trust_roots)?,
        trust_bundles: files.envelopes(&manifest.trust_bundles)?,
        revocations: files.envelopes(&manifest.revocations)?,
        heads,
        floor: manifest.floor.as_deref().map(order).transpose()?,
        confirmed: manifest
            .confirmed
            .map(|confirmed| {
                Ok::<_, StoreError>(Confirmed {
                    order: order(&confirmed.order)?,
                    generation: digest(&confirmed.generation)?,
                })
            })
            .transpose()?,
        generations,
        keys: StoredKeys {
            svid: manifest
                .svid
                .map(|svid| Ok::<_, StoreError>((files.get(&svid.key)?, files.all(&svid.chain)?)))
                .transpose()?,
            pending: files.get_any(manifest.pending_key.as_deref())?,
        },
        endpoints,
    };
    Ok((contents, left_out))
}

/// Files to write, by name.
#[derive(Default)]
struct Objects<'a>(BTreeMap<String, Cow<'a, [u8]>>);

impl<'a> Objects<'a> {
    fn add(&mut self, bytes: impl Into<Cow<'a, [u8]>>) -> String {
        let bytes = bytes.into();
        let name = Digest::of(&bytes).to_hex();
        self.0.insert(name.clone(), bytes);
        name
    }

    fn envelopes(&mut self, envelopes: &[Envelope]) -> Vec<String> {
        envelopes
            .iter()
            .map(|envelope| self.add(envelope.encode()))
            .collect()
    }

    fn generation(&mut self, generation: &'a StoredGeneration) -> ManifestGeneration {
        ManifestGeneration {
            envelope: self.add(generation.envelope.encode()),
            trust_root_version: generation.trust_root_version,
            slice: generation.slice.as_ref().map(|slice| self.add(slice)),
            proof: self.add(&generation.proof),
        }
    }
}

/// Files to read, by name.
struct Files<'a>(&'a mut dyn FnMut(Digest) -> Result<Vec<u8>, StoreError>);

impl Files<'_> {
    fn get(&mut self, name: &str) -> Result<Vec<u8>, StoreError> {
        (self.0)(digest(name)?)
    }

    fn get_any(&mut self, name: Option<&str>) -> Result<Option<Vec<u8>>, StoreError> {
        name.map(|name| self.get(name)).transpose()
    }

    fn all(&mut self, names: &[String]) -> Result<Vec<Vec<u8>>, StoreError> {
        names.iter().map(|name| self.get(name)).collect()
    }

    fn envelope(&mut self, name: &str) -> Result<Envelope, StoreError> {
        let bytes = self.get(name)?;
        Envelope::decode(&bytes).map_err(|error| damaged("envelope", &error))
    }

    fn envelopes(&mut self, names: &[String]) -> Result<Vec<Envelope>, StoreError> {
        names.iter().map(|name| self.envelope(name)).collect()
    }

    fn generation(&mut self, found: &ManifestGeneration) -> Result<StoredGeneration, StoreError> {
        Ok(StoredGeneration {
            envelope: self.envelope(&found.envelope)?,
            trust_root_version: found.trust_root_version,
            slice: self.get_any(found.slice.as_deref())?,
            proof: self.get(&found.proof)?,
        })
    }
}

fn digest(text: &str) -> Result<Digest, StoreError> {
    Digest::from_hex(text).map_err(|error| damaged("digest", &error))
}

fn order(text: &str) -> Result<mesh_bundle::order::Order, StoreError> {
    text.parse()
        .map_err(|error: mesh_bundle::order::OrderError| damaged("order", &error))
}

fn damaged(what: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{what}: {error}"))
}
