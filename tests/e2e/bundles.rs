//! Bundles that a proxy must refuse: each with its typed reason in status, metric and log, while
//! traffic goes on with the last good one and nothing of the bad one is applied.

use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::generation::{Generation, ObjectId};
use mesh_bundle::head::GenerationRef;
use mesh_bundle::key::SigningKey;
use mesh_bundle::merkle::{self, Tree};
use mesh_bundle::messages::bundle::Envelope as WireEnvelope;
use mesh_bundle::messages::distribution as wire;
use mesh_bundle::order::Order;
use mesh_bundle::scope::Scope;
use mesh_bundle::slice::Slice;
use mesh_bundle::spiffe::SpiffeId;
use mesh_bundle::trust_root::TrustRoot;
use mesh_tests::{Failure, unix_request, wait_until};

use crate::rogue::{Keys, Rogue};
use crate::support::{Bookshop, LIMIT, bookshop, sum};

const VICTIM: &str = "ratings";

/// A good generation with one slice, and everything that can be done to it.
struct Forge {
    scope: Scope,
    generation: Generation,
    slice: Vec<u8>,
    identity: SpiffeId,
}

/// An offer, and what is named in the head that goes with it.
struct Offer {
    named: GenerationRef,
    update: wire::GenerationUpdate,
}

impl Forge {
    fn new(root: &TrustRoot, slice: Vec<u8>, sequence: u64) -> Result<Self, Failure> {
        let identity = Slice::decode(&slice)?.identity;
        let generation = Generation {
            order: Order {
                epoch: root.epoch,
                sequence,
                emit: 1,
            },
            reference: root.reference.clone(),
            root_path: root.root_path.clone(),
            root: Digest::of(b""),
            leaf_count: 1,
            commit: ObjectId::from_bytes(&[7; 20])?,
            tree: ObjectId::from_bytes(&[8; 20])?,
            input_digest: Digest::of(b"input"),
            compiler: "0.1.0".to_owned(),
        };
        Ok(Self {
            scope: root.scope.clone(),
            generation,
            slice,
            identity,
        })
    }

    /// The good offer, after `change` had its way with it.
    fn offer(
        &self,
        signer: &SigningKey,
        change: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<Offer, Failure> {
        let mut forged = Self {
            scope: self.scope.clone(),
            generation: self.generation.clone(),
            slice: self.slice.clone(),
            identity: self.identity.clone(),
        };
        change(&mut forged)?;
        let size = u32::try_from(forged.slice.len())?;
        let leaf = (forged.identity.clone(), Digest::of(&forged.slice), size);
        let tree = Tree::build(vec![leaf])?;
        forged.generation.root = tree.root();
        let envelope = forged.generation.seal(&forged.scope, &[signer]);
        let named = GenerationRef {
            order: forged.generation.order,
            digest: envelope.payload_digest(),
        };
        let proof = tree
            .prove(&forged.identity)
            .ok_or_else(|| Failure::new("its own leaf"))?;
        let compressed = zstd::bulk::compress(&forged.slice, 3)?;
        let update = wire::GenerationUpdate {
            generation: Some((&envelope).into()),
            proof: Some((&proof).into()),
            slice: Some(wire::generation_update::Slice::Full(wire::SliceFull {
                compressed,
            })),
        };
        Ok(Offer { named, update })
    }
}

impl Offer {
    fn envelope(&mut self) -> Result<&mut WireEnvelope, Failure> {
        self.update
            .generation
            .as_mut()
            .ok_or_else(|| Failure::new("no envelope"))
    }

    fn proof(&mut self) -> Result<&mut wire::InclusionProof, Failure> {
        self.update
            .proof
            .as_mut()
            .ok_or_else(|| Failure::new("no proof"))
    }
}

/// Every bad bundle with the reason that it must be refused for.
fn bad(forge: &Forge, keys: &Keys, serving: Order) -> Result<Vec<(&'static str, Offer)>, Failure> {
    let good = |_: &mut Forge| Ok(());
    let mut offers = Vec::new();

    let mut unsigned = forge.offer(&keys.compile, good)?;
    unsigned.envelope()?.signatures.clear();
    offers.push(("unsigned", unsigned));

    let stranger = SigningKey::from_seed([9; 32]);
    offers.push(("unknown_signer", forge.offer(&stranger, good)?));

    let mut truncated = forge.offer(&keys.compile, good)?;
    if let Some(wire::generation_update::Slice::Full(full)) = &mut truncated.update.slice {
        full.compressed.truncate(full.compressed.len() / 2);
    }
    offers.push(("truncated", truncated));

    offers.push((
        "wrong_mesh",
        forge.offer(&keys.compile, |forged| {
            "another".clone_into(&mut forged.scope.mesh);
            Ok(())
        })?,
    ));
    offers.push((
        "wrong_environment",
        forge.offer(&keys.compile, |forged| {
            "staging".clone_into(&mut forged.scope.environment);
            Ok(())
        })?,
    ));
    offers.push((
        "order_too_low",
        forge.offer(&keys.compile, |forged| {
            forged.generation.order.sequence = serving.sequence - 1;
            Ok(())
        })?,
    ));
    offers.push((
        "equivocation",
        forge.offer(&keys.compile, |forged| {
            forged.generation.order = serving;
            Ok(())
        })?,
    ));
    offers.push((
        "wrong_workload",
        forge.offer(&keys.compile, |forged| {
            let mut slice = Slice::decode(&forged.slice)?;
            slice.identity = SpiffeId::parse("spiffe://bookshop.example/service/details")?;
            forged.slice = slice.encode();
            Ok(())
        })?,
    ));
    offers.push((
        "unknown_feature",
        forge.offer(&keys.compile, |forged| {
            let mut slice = Slice::decode(&forged.slice)?;
            slice.required_features.push("teleport".to_owned());
            forged.slice = slice.encode();
            Ok(())
        })?,
    ));
    offers.push((
        "non_canonical",
        forge.offer(&keys.compile, |forged| {
            // An unknown field at the end: tag 99, varint 1.
            forged.slice.extend([0x98, 0x06, 0x01]);
            Ok(())
        })?,
    ));

    let mut wrong_proof = forge.offer(&keys.compile, good)?;
    wrong_proof.proof()?.siblings.push(vec![1; 32]);
    offers.push(("bad_proof", wrong_proof));

    // A leaf that claims 4 GiB, with a root that agrees: only the size can be the reason.
    let mut huge = forge.offer(&keys.compile, good)?;
    let digest = Digest::of(&forge.slice);
    let mut leaf = vec![0];
    leaf.extend(merkle::key(&forge.identity).as_bytes());
    leaf.extend(u32::MAX.to_be_bytes());
    leaf.extend(digest.as_bytes());
    let mut generation = forge.generation.clone();
    generation.root = Digest::of(&leaf);
    let envelope = generation.seal(&forge.scope, &[&keys.compile]);
    huge.named.digest = envelope.payload_digest();
    huge.update.generation = Some((&envelope).into());
    huge.proof()?.size = u32::MAX;
    offers.push(("too_large", huge));
    Ok(offers)
}

#[test]
fn a_bad_bundle_is_refused_with_its_reason_while_traffic_goes_on() -> Result<(), Failure> {
    let shop = bookshop(20)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(play(&shop))
}

/// What is confirmed is the floor, below which nothing is accepted.
fn wait_confirmed(shop: &Bookshop, sequence: u64) -> Result<(), Failure> {
    let admin = &shop.dev.instance(VICTIM)?.admin;
    wait_until("the generation is confirmed", LIMIT, || {
        let config = unix_request(admin, "GET", "/config", "")?.json()?;
        if config["floor"] == format!("0.{sequence}.1") {
            return Ok(());
        }
        Err(Failure::new(config.to_string()))
    })
}

async fn play(shop: &Bookshop) -> Result<(), Failure> {
    // The second generation, so that there is a lower one to offer.
    let commit = shop.dev.commit_edit(
        "teams/reviews/ratings.kdl",
        &[("// How many stars", "// How many of five stars")],
    )?;
    shop.dev.wait_serving(&commit, LIMIT)?;
    wait_confirmed(shop, 2)?;
    let keys = Keys::read(&shop.dev.state().join("trust"))?;
    let folder = shop
        .dev
        .state()
        .join("proxies")
        .join(&shop.dev.instance(VICTIM)?.instance);
    let before = shop.served(VICTIM)?;
    let (Some(slice), Some(sequence)) = (&before.slice, before.sequence) else {
        return Err(Failure::new(format!("{before:?}")));
    };
    let slice = std::fs::read(
        folder
            .join("store")
            .join(slice.trim_start_matches("sha256:")),
    )?;
    let serving = Order {
        epoch: keys.root.epoch,
        sequence,
        emit: 1,
    };
    let forge = Forge::new(&keys.root, slice, sequence + 1)?;

    shop.dev.kill_distributor()?;
    let rogue = Rogue::start(
        shop.dev.distributor_address(),
        &keys,
        forge.identity.clone(),
    )
    .await?;
    for (reason, offer) in bad(&forge, &keys, serving)? {
        let doing = |failure: Failure| failure.while_doing(reason);
        rogue
            .offer(offer.named, offer.update)
            .await
            .map_err(doing)?;
        let status = rogue
            .status(&[wire::Phase::Rejected, wire::Phase::Serving])
            .await
            .map_err(doing)?;
        // A missing feature is named behind the reason.
        let kind = status.reason.split(':').next();
        assert_eq!(kind, Some(reason), "{}", status.detail);
        // Status, metric and log leave the proxy by three ways, in any order.
        wait_until("the reason is counted and logged", LIMIT, || {
            let label = format!("reason=\"{reason}\"");
            let counted = shop.metric(VICTIM, "mesh_config_rejected_total", &[&label])?;
            let log = std::fs::read_to_string(folder.join("meshp.log"))?;
            if counted >= 1.0 && log.contains(reason) {
                return Ok(());
            }
            Err(Failure::new(format!("{reason}: counted {counted}")))
        })?;
        let now = shop.served(VICTIM)?;
        assert_eq!(now.slice, before.slice, "after {reason}");
        assert_eq!(now.sequence, before.sequence, "after {reason}");
    }

    // The next good one is taken.
    let good = forge.offer(&keys.compile, |_| Ok(()))?;
    rogue.offer(good.named, good.update).await?;
    rogue.status(&[wire::Phase::Serving]).await?;
    assert_eq!(shop.served(VICTIM)?.sequence, Some(sequence + 1));

    let edge = wait_until("further traffic", LIMIT, || {
        let edge = shop.dev.edge("reviews", VICTIM)?;
        if edge.requests > 50 {
            return Ok(edge);
        }
        Err(Failure::new("too little traffic"))
    })?;
    assert_eq!(edge.failed, 0, "{edge:?}");
    Ok(())
}

#[test]
fn sums_only_the_series_that_are_asked_for() -> Result<(), Failure> {
    let text = "a_total{x=\"1\",y=\"2\"} 3\na_total{x=\"2\"} 4\na_total_more 9\na_total 1\n";
    assert!((sum(text, "a_total", &["x=\"1\""])? - 3.0).abs() < f64::EPSILON);
    assert!((sum(text, "a_total", &[])? - 8.0).abs() < f64::EPSILON);
    Ok(())
}

/// An envelope survives the wire form that it is offered in.
#[test]
fn an_envelope_is_the_same_after_the_wire() -> Result<(), Failure> {
    let key = SigningKey::from_seed([1; 32]);
    let envelope = Envelope::sign(
        mesh_bundle::envelope::PayloadType::Generation,
        b"payload".to_vec(),
        &[&key],
    );
    let wire: WireEnvelope = (&envelope).into();
    assert_eq!(Envelope::try_from(wire)?, envelope);
    Ok(())
}
