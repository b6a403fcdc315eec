//! The trust statements that are served, also in the followed repository: whoever cannot ask a
//! distributor finds them under `refs/mesh/trust`. They are only ever added there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_bundle::scope::Scope;
use mesh_daemon::clock::Clock;
use mesh_repo::{AppendError, Appended, Note, OpenError, Repository};
use prost::Message as _;

use crate::limits;
use crate::mesh::{Mesh, Pinned};
use crate::output::chain;
use crate::published::{Object, Published};

/// Where they are.
const REFERENCE: &str = "refs/mesh/trust";

/// Files by their paths.
type Files = BTreeMap<String, Vec<u8>>;

/// Why nothing was added.
#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    /// There is no repository to be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It takes nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Whether the repository is to have the statements of this mesh. A playground's are worth nothing
/// and must not stay in somebody's repository: there `development` roots leave no trace. Nor is
/// anything added to the very ref that is followed.
pub(crate) fn is_wanted(pinned: &Pinned) -> bool {
    !pinned.development && pinned.reference != REFERENCE
}

/// Adds what is served, now and whenever it changes; ends with the process. Serving waits for
/// none of it: a repository that takes nothing is asked again later.
pub(crate) async fn run(mesh: Arc<Mesh>, repository: PathBuf) {
    let mut published = mesh.subscribe();
    let mut archive = Archive::new(repository, &mesh.pinned, mesh.clock.clone());
    loop {
        let files = files(&mesh.pinned.scope, &published.borrow_and_update());
        // Heads come far more often than statements.
        if !archive.has(&files) {
            let added = tokio::task::spawn_blocking(move || {
                archive.add(files);
                archive
            });
            match added.await {
                Ok(back) => archive = back,
                Err(error) => {
                    tracing::error!(%error, "adding to {REFERENCE} failed, and is given up");
                    return;
                }
            }
        }
        if archive.trouble.is_some() {
            tokio::time::sleep(limits::ARCHIVE_RETRY).await;
        } else if published.changed().await.is_err() {
            return;
        }
    }
}

/// Its state between two additions.
#[derive(Debug)]
struct Archive {
    repository: PathBuf,
    email: String,
    clock: Clock,
    /// What the repository has.
    held: Files,
    /// Why it lacks something, so that it is told once.
    trouble: Option<String>,
    occupied: Vec<String>,
}

impl Archive {
    fn new(repository: PathBuf, pinned: &Pinned, clock: Clock) -> Self {
        Self {
            repository,
            email: format!("meshd@{}", pinned.scope.trust_domain),
            clock,
            held: Files::new(),
            trouble: None,
            occupied: Vec::new(),
        }
    }

    fn has(&self, files: &Files) -> bool {
        self.held == *files
    }

    /// Blocks on the disk.
    fn add(&mut self, files: Files) {
        match append(&self.repository, &files, &self.email, &self.clock) {
            Ok(Appended { commit, occupied }) => {
                if let Some(commit) = commit {
                    tracing::info!(%commit, "added trust statements to {REFERENCE}");
                }
                if self.occupied != occupied && !occupied.is_empty() {
                    tracing::error!(
                        ?occupied,
                        "{REFERENCE} has other statements there, as of another mesh or environment; they stay"
                    );
                }
                self.occupied = occupied;
                self.held = files;
                self.trouble = None;
            }
            Err(error) => {
                let error = chain(&error);
                if self.trouble.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "could not add trust statements to {REFERENCE}; going on without, and trying again"
                    );
                }
                self.trouble = Some(error);
            }
        }
    }
}

fn append(
    repository: &Path,
    files: &Files,
    email: &str,
    clock: &Clock,
) -> Result<Appended, ArchiveError> {
    let note = Note {
        author: "meshd",
        email,
        message: "mesh: trust statements\n",
        at: i64::try_from(clock.unix_time().as_secs()).unwrap_or(i64::MAX),
    };
    Ok(Repository::open(repository)?.append(REFERENCE, files, &note)?)
}

/// The statements, each at a path of its own version. Of the revocations that is every stream that is
/// served: the issuer's, and what people signed and put into the trust folder. Signed hourly, they
/// keep growing in number; whoever reads them (`pull` will) wants the highest version of each stream.
///
/// The first two folders are the mesh and its environment: several of them may share a repository.
fn files(scope: &Scope, published: &Published) -> Files {
    let Scope {
        mesh, environment, ..
    } = scope;
    let file = |folder: String, object: &Object| {
        let path = format!("{mesh}/{environment}/{folder}/{}.envelope", object.version);
        (path, object.envelope.encode_to_vec())
    };
    let roots = published.trust_roots.iter();
    let roots = roots.map(|root| file("trust-roots".to_owned(), root));
    let bundles = published.trust_bundles.iter();
    let bundles = bundles.map(|bundle| file(format!("trust-bundles/{}", bundle.name), bundle));
    let streams = published.revocations.iter();
    let streams = streams.map(|stream| file(format!("revocations/{}", stream.name), stream));
    roots.chain(bundles).chain(streams).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use mesh_bundle::envelope::Envelope;

    use super::*;
    use crate::fixture::{Fixture, NOW_MS, TestRepository};
    use crate::publish::Publisher;

    struct World {
        fixture: Fixture,
        publisher: Publisher,
        repository: TestRepository,
        archive: Archive,
        clock: Clock,
    }

    impl World {
        fn new() -> Self {
            let fixture = Fixture::new(false);
            let clock = Clock::manual(NOW_MS);
            let publisher = fixture.publisher(&clock);
            let repository = TestRepository::new();
            let archive = Archive::new(repository.path(), &pinned(&fixture, false), clock.clone());
            Self {
                fixture,
                publisher,
                repository,
                archive,
                clock,
            }
        }

        fn add(&mut self) {
            self.archive
                .add(files(&self.fixture.root.scope, &self.publisher.published()));
        }
    }

    fn pinned(fixture: &Fixture, development: bool) -> Pinned {
        Pinned {
            scope: fixture.root.scope.clone(),
            reference: fixture.root.reference.clone(),
            development,
        }
    }

    #[test]
    fn statements_of_a_playground_stay_out() {
        let fixture = Fixture::new(true);
        assert!(is_wanted(&pinned(&fixture, false)));
        assert!(!is_wanted(&pinned(&fixture, true)));
        let mut itself = pinned(&fixture, false);
        itself.reference = REFERENCE.to_owned();
        assert!(!is_wanted(&itself));
    }

    #[test]
    fn what_is_served_is_added_and_stays() {
        let mut world = World::new();
        world.add();
        let stream = format!(
            "bookshop/default/revocations/{}",
            world.fixture.key("issuer").id().to_hex()
        );
        let before = world.repository.held(REFERENCE);
        let paths: Vec<_> = before.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                &*format!("{stream}/2.envelope"),
                "bookshop/default/trust-bundles/test.example/1.envelope",
                "bookshop/default/trust-roots/1.envelope",
            ]
        );
        let root = Envelope::decode(&before["bookshop/default/trust-roots/1.envelope"]).unwrap();
        assert_eq!(root.payload_digest(), world.fixture.root.digest());

        world.clock.advance(Duration::from_hours(1));
        world.publisher.renew_revocations().unwrap();
        world.add();
        let mut after = world.repository.held(REFERENCE);
        assert!(after.remove(&format!("{stream}/3.envelope")).is_some());
        assert_eq!(after, before);
        assert!(world.archive.trouble.is_none());
    }

    #[test]
    fn others_may_add_at_the_same_time() {
        let mut world = World::new();
        let path = world.repository.path();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let repository = Repository::open(&path).unwrap();
                let note = Note {
                    author: "other",
                    email: "other@test.example",
                    message: "x",
                    at: 0,
                };
                for turn in 0..20 {
                    let file = Files::from([(format!("other/{turn}"), Vec::new())]);
                    while repository.append(REFERENCE, &file, &note).is_err() {}
                }
            });
            for _ in 0..20 {
                world.publisher.renew_revocations().unwrap();
                world.add();
                // A ref that others held is left for the next time.
                while world.archive.trouble.is_some() {
                    world.add();
                }
            }
        });
        assert_eq!(world.repository.held(REFERENCE).len(), 20 + 20 + 2);
    }

    #[test]
    fn a_repository_that_takes_nothing_is_tried_again() {
        let mut world = World::new();
        // As a git that was killed leaves it; what a read-only one answers is tested where it is written.
        let lock = world.repository.path().join(format!("{REFERENCE}.lock"));
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        fs::write(&lock, "").unwrap();
        world.add();
        let trouble = world.archive.trouble.clone();
        assert!(trouble.is_some_and(|trouble| trouble.contains("others kept changing")));
        assert!(world.archive.held.is_empty());

        fs::remove_file(lock).unwrap();
        world.add();
        assert!(world.archive.trouble.is_none());
        assert_eq!(world.repository.held(REFERENCE).len(), 3);
    }

    #[test]
    fn a_repository_that_is_not_there_is_tried_again() {
        let mut world = World::new();
        let real = world.archive.repository.clone();
        world.archive.repository = real.join("nowhere");
        world.add();
        assert!(world.archive.trouble.is_some());
        world.archive.repository = real;
        world.add();
        assert!(world.archive.trouble.is_none());
    }

    #[test]
    fn statements_of_another_mesh_stay() {
        let mut world = World::new();
        let theirs = Files::from([(
            "bookshop/default/trust-roots/1.envelope".to_owned(),
            b"theirs".to_vec(),
        )]);
        append(
            &world.repository.path(),
            &theirs,
            "x@test.example",
            &world.clock,
        )
        .unwrap();
        world.add();
        assert_eq!(
            world.archive.occupied,
            ["bookshop/default/trust-roots/1.envelope"]
        );
        let held = world.repository.held(REFERENCE);
        assert_eq!(held["bookshop/default/trust-roots/1.envelope"], b"theirs");
        assert_eq!(held.len(), 3);
    }
}
