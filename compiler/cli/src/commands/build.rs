//! `meshc build`: a commit becomes a generation and its slices. The work tree is never compiled.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::generation::{Generation, ObjectId};
use mesh_bundle::merkle::Tree;
use mesh_bundle::order::Order;
use mesh_bundle::trust_root::TrustRoot;
use mesh_compiler::code;
use mesh_compiler::date::Date;
use mesh_compiler::{EMIT, Emitted, RELEASE};
use mesh_repo::{CommitId, Repository, input_digest};

use super::{Failure, folder};
use crate::args::{Build, Format, Place};
use crate::commands::keygen::key_file;
use crate::compile::{Subject, compile};
use crate::exit_code::Exit;
use crate::render::{human, json};
use crate::{limits, load, output};

/// What was written.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) generation: Digest,
    pub(crate) order: Order,
    pub(crate) root: Digest,
    pub(crate) slices: usize,
    pub(crate) bytes: usize,
    pub(crate) commit: String,
    pub(crate) signatures: usize,
}

/// Why a commit is not built.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("there is no commit {0}")]
    NoCommit(String),
    #[error("the work tree differs from HEAD ({}); commit it, or name a commit with --commit ({})", .0.join(", "), code::NOT_COMMITTED.code)]
    Dirty(Vec<String>),
    #[error(
        "{commit} is not reachable from {tip}; only a commit of the followed ref may be signed"
    )]
    NotOnRef { commit: CommitId, tip: String },
    #[error("the repository has no {0}; name the followed ref with --ref")]
    NoRef(String),
    #[error("the policies are of {policy}, the trust root is of {root}")]
    OtherScope { policy: String, root: String },
    #[error("could not read the trust root {}", path.display())]
    TrustRoot {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no trust root", path.display())]
    NoTrustRoot {
        path: PathBuf,
        #[source]
        source: mesh_bundle::reject::Rejection,
    },
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the slices do not make a tree")]
    Tree(#[source] mesh_bundle::merkle::TreeError),
    #[error("{} can't be signed with this key twice, or with so many keys", .0.display())]
    Sign(PathBuf, #[source] mesh_bundle::reject::Rejection),
}

/// What the generation is pinned to.
struct Pin {
    reference: String,
    root_path: Option<String>,
    epoch: u64,
    trust_root: Option<TrustRoot>,
}

pub(super) fn run(args: &Build, place: &Place) -> Result<Exit, Failure> {
    let folder = folder(place, args.folder.as_deref());
    let repository = Repository::discover(&folder)?;
    let pin = pin(args)?;
    let name = args.commit.as_deref().unwrap_or("HEAD");
    let commit = repository
        .resolve(name)?
        .ok_or_else(|| BuildError::NoCommit(name.to_owned()))?;
    let root_path = match &pin.root_path {
        Some(root_path) => root_path.clone(),
        None => root_of(&repository, &folder, commit)?,
    };
    if args.commit.is_none() && repository.work_tree().is_some() {
        let changed = repository.uncommitted(&root_path)?;
        if !changed.is_empty() {
            return Err(BuildError::Dirty(changed).into());
        }
    }
    if !args.sign.is_empty() {
        refuse_unreachable(&repository, commit, &pin.reference)?;
    }
    let sources = repository.policy_files(commit, &root_path)?;
    // The commit's own day, so that whoever builds it gets the same answer.
    let today = match place.today {
        Some(today) => today,
        None => Date::from_unix_seconds(repository.commit_time(commit)?),
    };
    let compiled = compile(Subject {
        sources: &sources,
        environment: place.environment(),
        root_path: &root_path,
        today,
    });
    compiled.has_environment(place.environment())?;
    let Some(checked) = &compiled.checked else {
        output::note(human::check(&sources, &compiled).trim_end());
        return Ok(Exit::from_findings(false, &compiled.findings));
    };
    let emitted = mesh_compiler::emit(checked);
    if let Some(root) = pin.trust_root.filter(|root| root.scope != emitted.scope) {
        let text = |scope: &mesh_bundle::scope::Scope| {
            format!(
                "mesh {}, environment {}, {}",
                scope.mesh, scope.environment, scope.trust_domain
            )
        };
        return Err(BuildError::OtherScope {
            policy: text(&emitted.scope),
            root: text(&root.scope),
        }
        .into());
    }
    let order = Order {
        epoch: pin.epoch,
        sequence: repository.sequence(commit)?,
        emit: EMIT,
    };
    let slices: Vec<_> = emitted
        .slices
        .iter()
        .map(|(identity, slice)| (identity.clone(), slice.encode()))
        .collect();
    let leaves = slices.iter().map(|(identity, bytes)| {
        (
            identity.clone(),
            Digest::of(bytes),
            u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        )
    });
    let tree = Tree::build(leaves.collect()).map_err(BuildError::Tree)?;
    let generation = Generation {
        order,
        reference: pin.reference,
        root_path,
        root: tree.root(),
        leaf_count: tree.leaf_count(),
        commit: ObjectId::from_bytes(commit.as_bytes())?,
        tree: ObjectId::from_bytes(repository.tree_id(commit)?.as_bytes())?,
        input_digest: Digest::from_bytes(input_digest(&sources)),
        compiler: RELEASE.to_owned(),
    };
    let envelope = sign(&generation, &emitted, &args.sign)?;
    let slices: Vec<Vec<u8>> = slices.into_iter().map(|(_, bytes)| bytes).collect();
    write(&args.out, &envelope, &slices)?;
    let built = Built {
        generation: envelope.payload_digest(),
        order,
        root: generation.root,
        slices: slices.len(),
        bytes: slices.iter().map(Vec::len).sum(),
        commit: commit.to_string(),
        signatures: envelope.signatures().len(),
    };
    let text = match args.format {
        Format::Human => human::built(&built),
        Format::Json => json::built(&built)?,
    };
    output::data(&text)?;
    Ok(Exit::Clean)
}

fn pin(args: &Build) -> Result<Pin, BuildError> {
    let Some(path) = &args.trust_root else {
        return Ok(Pin {
            reference: args.reference.clone(),
            root_path: None,
            epoch: args.epoch,
            trust_root: None,
        });
    };
    let bytes = read_bounded(path).map_err(|source| BuildError::TrustRoot {
        path: path.clone(),
        source,
    })?;
    let not_one = |source| BuildError::NoTrustRoot {
        path: path.clone(),
        source,
    };
    let envelope = Envelope::decode(&bytes).map_err(not_one)?;
    // It is read for its settings, by someone who holds the file: whether it is the right one is for proxies to say.
    let root = TrustRoot::verify_pinned(&envelope, &envelope.payload_digest())
        .map_err(not_one)?
        .into_value();
    Ok(Pin {
        reference: root.reference.clone(),
        root_path: Some(root.root_path.clone()),
        epoch: root.epoch,
        trust_root: Some(root),
    })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(limits::KEY_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The root that the folder is in; in a bare repository, or if the work tree has none, the commit's only one.
fn root_of(repository: &Repository, folder: &Path, commit: CommitId) -> Result<String, Failure> {
    match load::root_path(folder) {
        Ok(root_path) if repository.work_tree().is_some() => Ok(root_path),
        _ => Ok(repository.find_root(commit)?),
    }
}

/// A merge commit of a pull request can have a higher number than anything on the ref, and must not be signed.
fn refuse_unreachable(
    repository: &Repository,
    commit: CommitId,
    reference: &str,
) -> Result<(), Failure> {
    let fetched = reference
        .strip_prefix("refs/heads/")
        .map(|branch| format!("refs/remotes/origin/{branch}"));
    for name in fetched.iter().map(String::as_str).chain([reference]) {
        let Some(tip) = repository.resolve(name)? else {
            continue;
        };
        if repository.is_ancestor(commit, tip)? {
            return Ok(());
        }
        return Err(BuildError::NotOnRef {
            commit,
            tip: name.to_owned(),
        }
        .into());
    }
    Err(BuildError::NoRef(reference.to_owned()).into())
}

fn sign(generation: &Generation, emitted: &Emitted, keys: &[PathBuf]) -> Result<Envelope, Failure> {
    let mut envelope = generation.seal(&emitted.scope, &[]);
    for path in keys {
        let key = key_file::read(path)?;
        envelope
            .add_signature(&key)
            .map_err(|source| BuildError::Sign(path.clone(), source))?;
    }
    Ok(envelope)
}

fn write(out: &Path, envelope: &Envelope, slices: &[Vec<u8>]) -> Result<(), BuildError> {
    let write_one = |path: PathBuf, bytes: &[u8]| {
        fs::write(&path, bytes).map_err(|source| BuildError::Write { path, source })
    };
    let folder = out.join("slices");
    fs::create_dir_all(&folder).map_err(|source| BuildError::Write {
        path: folder.clone(),
        source,
    })?;
    for bytes in slices {
        write_one(folder.join(Digest::of(bytes).to_hex()), bytes)?;
    }
    // Last, so that whoever finds it finds its slices too.
    write_one(out.join("generation.envelope"), &envelope.encode())
}
