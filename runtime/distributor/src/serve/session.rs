//! What one proxy is told next. Nothing is queued: each answer is made from what is served now and
//! what this proxy already has, so a slow proxy skips whatever was overtaken. No sockets, no clock.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bundle::digest::Digest;
use mesh_bundle::messages::distribution::follow_response::Kind;
use mesh_bundle::messages::distribution::{Hello, ProxyHeartbeat, Renew};
use mesh_bundle::spiffe::SpiffeId;

use crate::generation::{Served, ServedSlice};
use crate::limits;
use crate::published::{Object, Published};
use crate::serve::update::{self, UpdateError};
use crate::status::fleet::digest;

/// What one proxy has been sent on one stream.
#[derive(Debug)]
pub(crate) struct Session {
    identity: SpiffeId,
    /// Slices that it holds, those it was sent last at the end.
    held: Vec<Digest>,
    trust_root: u64,
    objects: BTreeMap<(ObjectKind, String), Digest>,
    head: u64,
    generation: Option<Digest>,
    slice: Option<Digest>,
    /// The last asking for renewals that it knows; none before the first look.
    renewals: Option<u64>,
    /// Version of the endpoints, 0 before any.
    endpoints: u64,
    /// Services whose endpoints were sent.
    callees: BTreeSet<String>,
    /// The generation that `callees` was worked out for.
    callees_of: Option<Digest>,
    generation_mismatches: u32,
    endpoints_mismatches: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ObjectKind {
    TrustBundle,
    Revocations,
}

impl Session {
    /// Begins with what the proxy says that it has.
    pub(crate) fn new(identity: SpiffeId, hello: &Hello) -> Self {
        Self {
            identity,
            held: hello
                .held_slices
                .iter()
                .take(limits::HELD_SLICES_MAX)
                .filter_map(|held| digest(held))
                .collect(),
            trust_root: hello.trust_root_version,
            objects: BTreeMap::new(),
            head: 0,
            generation: None,
            slice: None,
            renewals: None,
            endpoints: 0,
            callees: BTreeSet::new(),
            callees_of: None,
            generation_mismatches: 0,
            endpoints_mismatches: 0,
        }
    }

    /// The next message, or none while the proxy has everything. Trust comes before the head that
    /// names it, and the head before its generation. Endpoints come before both: a service that a
    /// route newly leads to must not be without any when the proxy swaps.
    pub(crate) fn next(&mut self, published: &Published) -> Result<Option<Kind>, UpdateError> {
        if let Some(message) = self.trust(published) {
            return Ok(Some(message));
        }
        let asked = published.renewals;
        // Whoever connects later has its certificate from later, or renews it in its time.
        if self
            .renewals
            .replace(asked.count)
            .is_some_and(|known| known < asked.count)
        {
            return Ok(Some(Kind::Renew(Renew {
                within_s: asked.within_s,
            })));
        }
        if let Some(endpoints) = self.endpoints(published) {
            return Ok(Some(endpoints));
        }
        if let Some(head) = &published.head
            && head.object.version > self.head
        {
            self.head = head.object.version;
            return Ok(Some(Kind::Head(head.object.envelope.clone())));
        }
        let Some(current) = published.current() else {
            return Ok(None);
        };
        if self.generation != Some(current.digest()) {
            return self.generation(published, current).map(Some);
        }
        Ok(None)
    }

    /// Compares what the proxy serves with what it was sent. A difference that stays is repaired by
    /// sending it again, except for a generation that the proxy refused: it would refuse it again.
    /// Says whether a generation is sent again.
    pub(crate) fn heartbeat(&mut self, heartbeat: &ProxyHeartbeat, refused: bool) -> bool {
        let endpoints = self.endpoints == 0 || heartbeat.endpoints_version == self.endpoints;
        if stays_different(&mut self.endpoints_mismatches, endpoints) {
            self.endpoints = 0;
        }
        let generation = self.generation.is_none()
            || (digest(&heartbeat.generation) == self.generation
                && (self.slice.is_none() || digest(&heartbeat.slice) == self.slice));
        let repair = stays_different(&mut self.generation_mismatches, generation || refused);
        if repair {
            self.send_again();
        }
        repair
    }

    /// Sends the newest slice again and whole: the proxy could not use what it was sent.
    pub(crate) fn resend(&mut self) {
        self.held.clear();
        self.send_again();
    }

    /// What the proxy was last sent.
    pub(crate) fn sent(&self) -> Option<Digest> {
        self.generation
    }

    fn send_again(&mut self) {
        self.generation = None;
        self.slice = None;
    }

    /// The next message about trust, or none while the proxy has all of it.
    pub(crate) fn trust(&mut self, published: &Published) -> Option<Kind> {
        if let Some(root) = published
            .trust_roots
            .iter()
            .find(|root| root.version > self.trust_root)
        {
            self.trust_root = root.version;
            return Some(Kind::TrustRoot(root.envelope.clone()));
        }
        let bundle = self
            .unsent(ObjectKind::TrustBundle, &published.trust_bundles)
            .map(Kind::TrustBundle);
        bundle.or_else(|| {
            self.unsent(ObjectKind::Revocations, &published.revocations)
                .map(Kind::Revocations)
        })
    }

    fn unsent(
        &mut self,
        kind: ObjectKind,
        objects: &[Object],
    ) -> Option<mesh_bundle::messages::bundle::Envelope> {
        objects.iter().find_map(|object| {
            let sent = self
                .objects
                .insert((kind, object.name.clone()), object.digest);
            (sent != Some(object.digest)).then(|| object.envelope.clone())
        })
    }

    fn generation(&mut self, published: &Published, current: &Served) -> Result<Kind, UpdateError> {
        let update = update::update(&published.generations, &self.identity, &self.held)?;
        self.generation = Some(current.digest());
        self.slice = current
            .slices()
            .get(&self.identity)
            .map(ServedSlice::digest);
        if let Some(slice) = self.slice {
            self.held.retain(|held| *held != slice);
            self.held.push(slice);
            let beyond = self.held.len().saturating_sub(limits::HELD_SLICES_MAX);
            self.held.drain(..beyond);
        }
        Ok(Kind::Generation(update))
    }

    /// Nothing is sent before anyone fed endpoints: an empty list would take away those that the
    /// proxy remembers.
    fn endpoints(&mut self, published: &Published) -> Option<Kind> {
        let current = published.current()?;
        let endpoints = published.endpoints.as_ref()?;
        let is_newer = endpoints.version != self.endpoints;
        if !is_newer && self.callees_of == Some(current.digest()) {
            return None;
        }
        if !current.slices().contains_key(&self.identity) {
            return None;
        }
        self.callees_of = Some(current.digest());
        let callees = published.callees(&self.identity);
        if !is_newer && callees == self.callees {
            return None;
        }
        self.endpoints = endpoints.version;
        self.callees = callees;
        Some(Kind::Endpoints(
            endpoints.feed.of(&self.callees, endpoints.version),
        ))
    }
}

/// One difference may be a message that is still on its way; several in a row are not.
fn stays_different(mismatches: &mut u32, same: bool) -> bool {
    *mismatches = if same { 0 } else { *mismatches + 1 };
    if *mismatches < limits::MISMATCHES_BEFORE_REPAIR {
        return false;
    }
    *mismatches = 0;
    true
}

#[cfg(test)]
mod tests {
    use mesh_bundle::messages::distribution::generation_update::Slice as Form;
    use mesh_daemon::clock::Clock;
    use mesh_daemon::rpc::compression;

    use super::*;
    use crate::endpoints::{EndpointFeed, EndpointSet};
    use crate::fixture::{Fixture, NOW_MS, id, slice};
    use crate::publish::Publisher;

    struct World {
        fixture: Fixture,
        publisher: Publisher,
    }

    impl World {
        fn new() -> Self {
            let fixture = Fixture::new(true);
            let publisher = fixture.publisher(&Clock::manual(NOW_MS));
            Self { fixture, publisher }
        }

        fn accept(&self, sequence: u64, callees: &[&str]) -> Digest {
            let served = self
                .fixture
                .served(sequence, &[slice("a", callees), slice("b", &[])]);
            let digest = served.digest();
            self.publisher.accept(served).unwrap();
            digest
        }

        fn rest(&self, session: &mut Session) -> Vec<Kind> {
            let published = self.publisher.published();
            std::iter::from_fn(|| session.next(&published).unwrap()).collect()
        }
    }

    fn name(kind: &Kind) -> &'static str {
        match kind {
            Kind::TrustRoot(_) => "trust_root",
            Kind::TrustBundle(_) => "trust_bundle",
            Kind::Revocations(_) => "revocations",
            Kind::Head(_) => "head",
            Kind::Endpoints(_) => "endpoints",
            Kind::Renew(_) => "renew",
            Kind::Generation(update) => match update.slice.as_ref().unwrap() {
                Form::Full(_) => "full",
                Form::Delta(_) => "delta",
                Form::Same(_) => "same",
                Form::Absent(_) => "absent",
            },
        }
    }

    fn names(kinds: &[Kind]) -> Vec<&'static str> {
        kinds.iter().map(name).collect()
    }

    fn heartbeat(generation: Digest, session: &Session) -> ProxyHeartbeat {
        ProxyHeartbeat {
            generation: generation.as_bytes().to_vec(),
            slice: session
                .slice
                .map(|slice| slice.as_bytes().to_vec())
                .unwrap_or_default(),
            endpoints_version: session.endpoints,
            trust_bundle_version: 1,
        }
    }

    #[test]
    fn everything_comes_once_and_in_order() {
        let world = World::new();
        let mut session = Session::new(id("a"), &Hello::default());
        assert_eq!(
            names(&world.rest(&mut session)),
            ["trust_root", "trust_bundle", "revocations"]
        );
        world.accept(1, &["b"]);
        world
            .publisher
            .set_endpoints(EndpointFeed::default())
            .unwrap();
        assert_eq!(
            names(&world.rest(&mut session)),
            ["endpoints", "head", "full"]
        );
        world.publisher.renew_head().unwrap();
        assert_eq!(names(&world.rest(&mut session)), ["head"]);
        world.publisher.renew_revocations().unwrap();
        assert_eq!(names(&world.rest(&mut session)), ["revocations", "head"]);
        world.publisher.ask_renewals(30);
        assert_eq!(names(&world.rest(&mut session)), ["renew"]);
        // Who comes later is not asked for what was before.
        let mut late = Session::new(id("a"), &Hello::default());
        assert!(!names(&world.rest(&mut late)).contains(&"renew"));
    }

    #[test]
    fn a_slow_proxy_skips_what_was_overtaken() {
        let world = World::new();
        world.accept(1, &["b"]);
        let mut session = Session::new(
            id("a"),
            &Hello {
                trust_root_version: 1,
                ..Hello::default()
            },
        );
        world.rest(&mut session);
        world.accept(2, &["b", "c"]);
        world.accept(3, &["c"]);
        world.accept(4, &["b", "c", "d"]);
        assert_eq!(names(&world.rest(&mut session)), ["head", "delta"]);
    }

    #[test]
    fn a_delta_gives_the_slice_and_a_revert_is_the_same() {
        let world = World::new();
        world.accept(1, &["b"]);
        let old = slice("a", &["b"]).encode();
        let held = vec![Digest::of(&old).as_bytes().to_vec()];
        world.accept(2, &["b", "c"]);
        let mut session = Session::new(
            id("a"),
            &Hello {
                held_slices: held,
                ..Hello::default()
            },
        );
        let messages = world.rest(&mut session);
        let Some(Kind::Generation(update)) = messages.last() else {
            panic!("{messages:?}")
        };
        let Some(Form::Delta(delta)) = &update.slice else {
            panic!("{update:?}")
        };
        let size = usize::try_from(update.proof.as_ref().unwrap().size).unwrap();
        let new = compression::decompress_delta(&old, &delta.compressed, size).unwrap();
        assert_eq!(new, slice("a", &["b", "c"]).encode());
        world.accept(3, &["b"]);
        assert_eq!(names(&world.rest(&mut session)), ["head", "same"]);
    }

    #[test]
    fn an_identity_that_is_not_in_the_generation_gets_the_proof_of_it_and_no_endpoints() {
        let world = World::new();
        world.accept(1, &["b"]);
        world
            .publisher
            .set_endpoints(EndpointFeed::default())
            .unwrap();
        let mut session = Session::new(
            id("nobody"),
            &Hello {
                trust_root_version: 1,
                ..Hello::default()
            },
        );
        assert_eq!(
            names(&world.rest(&mut session)),
            ["trust_bundle", "revocations", "head", "absent"]
        );
    }

    #[test]
    fn a_mismatch_that_stays_is_repaired_unless_it_was_refused() {
        let world = World::new();
        let first = world.accept(1, &["b"]);
        let mut session = Session::new(id("a"), &Hello::default());
        world.rest(&mut session);
        let stranger = Digest::of(b"another");
        let beat = heartbeat(first, &session);
        assert!(!session.heartbeat(&beat, false));
        let wrong = heartbeat(stranger, &session);
        assert!(!session.heartbeat(&wrong, false), "it may just be applying");
        assert!(!session.heartbeat(&beat, false));
        assert!(!session.heartbeat(&wrong, false), "the count began anew");
        assert!(session.heartbeat(&wrong, false));
        assert_eq!(names(&world.rest(&mut session)), ["same"]);
        for _ in 0..5 {
            assert!(!session.heartbeat(&wrong, true));
        }
        session.resend();
        assert_eq!(names(&world.rest(&mut session)), ["full"]);
    }

    fn services(kind: &Kind) -> Vec<&str> {
        let Kind::Endpoints(endpoints) = kind else {
            panic!("{kind:?}")
        };
        endpoints
            .sets
            .iter()
            .map(|set| set.service.as_str())
            .collect()
    }

    #[test]
    fn endpoints_are_there_before_the_slice_that_needs_them_and_as_long_as_one_does() {
        let world = World::new();
        world.accept(1, &["b"]);
        let feed = |service: &str| EndpointSet {
            service: service.to_owned(),
            labels: Vec::new(),
            zone: String::new(),
            spiffe_id: None,
            addresses: Vec::new(),
        };
        let version = world
            .publisher
            .set_endpoints(EndpointFeed {
                sets: ["b", "c", "d"].map(feed).into(),
            })
            .unwrap();
        let mut session = Session::new(id("a"), &Hello::default());
        world.rest(&mut session);
        world.accept(2, &["b", "c"]);
        let messages = world.rest(&mut session);
        assert_eq!(names(&messages), ["endpoints", "head", "delta"]);
        assert_eq!(services(&messages[0]), ["b", "c"]);
        assert_eq!(session.endpoints, version, "the feed is the same");
        // A proxy that refuses the next one, or is taken back, still needs the old ones.
        world.accept(3, &["d"]);
        let messages = world.rest(&mut session);
        assert_eq!(services(&messages[0]), ["b", "c", "d"]);
        for sequence in 4..=6 {
            world.accept(sequence, &["d"]);
            assert_eq!(names(&world.rest(&mut session)), ["head", "same"]);
        }
        world.accept(7, &["d"]);
        let messages = world.rest(&mut session);
        assert_eq!(services(&messages[0]), ["d"], "no kept generation has them");
    }

    #[test]
    fn before_anyone_fed_endpoints_a_proxy_keeps_those_that_it_remembers() {
        let world = World::new();
        world.accept(1, &["b"]);
        let mut session = Session::new(id("a"), &Hello::default());
        let mut beat = heartbeat(world.accept(2, &["c"]), &session);
        beat.endpoints_version = 7;
        for _ in 0..4 {
            assert!(!names(&world.rest(&mut session)).contains(&"endpoints"));
            session.heartbeat(&beat, false);
        }
    }

    #[test]
    fn endpoints_that_got_lost_are_sent_again() {
        let world = World::new();
        let first = world.accept(1, &["b"]);
        world
            .publisher
            .set_endpoints(EndpointFeed::default())
            .unwrap();
        let mut session = Session::new(id("a"), &Hello::default());
        world.rest(&mut session);
        let mut beat = heartbeat(first, &session);
        beat.endpoints_version = 0;
        session.heartbeat(&beat, false);
        assert!(
            world.rest(&mut session).is_empty(),
            "they may be on their way"
        );
        session.heartbeat(&beat, false);
        assert_eq!(names(&world.rest(&mut session)), ["endpoints"]);
    }
}
