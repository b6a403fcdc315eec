//! `meshc keygen`: the keys of every role, the first trust root, and the first trust data. One key per role, each in a
//! file of its own that only its owner can read; which of them belong on which machine is printed at the end.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_bundle::ceremony::{CeremonyKeys, CeremonySettings, RoleKeys, first_trust_root};
use mesh_bundle::key::SigningKey;
use mesh_bundle::revocations::Revocations;
use mesh_bundle::scope::Scope;
use mesh_bundle::spiffe::TrustDomain;
use mesh_bundle::trust_bundle::TrustBundle;
use mesh_bundle::trust_root::IdentitySource;
use rand::RngExt as _;
use serde::Serialize;

use super::Failure;
use crate::args::{Format, Keygen, Place};
use crate::exit_code::Exit;
use crate::output;
use crate::render::json;

pub(super) mod authority;
pub(crate) mod key_file;

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
enum KeygenError {
    #[error("{} exists already; keys are never overwritten", .0.display())]
    Exists(PathBuf),
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the clock is before 1970")]
    Clock,
    #[error("\"{0}\" is no full name of a ref, such as refs/heads/main")]
    Reference(String),
}

#[derive(Serialize)]
struct Made<'a> {
    trust_root: String,
    folder: String,
    mesh: &'a str,
    environment: &'a str,
    trust_domain: &'a str,
}

/// What each key is for, and where it belongs.
const ROLES: [(&str, &str); 5] = [
    ("root", "changes the trust root; keep it offline"),
    (
        "trust",
        "names the certificate authorities; keep it offline",
    ),
    (
        "compile",
        "signs generations; CI, or a distributor that compiles",
    ),
    ("head", "names the current generation; the distributor"),
    (
        "issuer",
        "signs revocations; the distributor that issues certificates",
    ),
];

pub(super) fn run(args: &Keygen, place: &Place) -> Result<Exit, Failure> {
    let scope = Scope {
        mesh: args.mesh.clone(),
        environment: args.environment.clone(),
        trust_domain: TrustDomain::parse(&args.trust_domain)?,
    };
    if !args.reference.starts_with("refs/") {
        return Err(KeygenError::Reference(args.reference.clone()).into());
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_before| KeygenError::Clock)?;
    let mut rng = rand::rng();
    let seeds: Vec<[u8; 32]> = ROLES.iter().map(|_| rng.random()).collect();
    let keys: Vec<SigningKey> = seeds
        .iter()
        .map(|seed| SigningKey::from_seed(*seed))
        .collect();
    let [root_key, trust_key, compile_key, head_key, issuer_key] = keys.as_slice() else {
        unreachable!("there is one key per role")
    };
    let ceremony = CeremonyKeys {
        root: RoleKeys::one(root_key.public()),
        trust: RoleKeys::one(trust_key.public()),
        compile: RoleKeys::one(compile_key.public()),
        head: vec![head_key.public()],
        issuer: vec![issuer_key.public()],
        federation: std::collections::BTreeMap::new(),
    };
    let settings = CeremonySettings {
        scope: scope.clone(),
        reference: args.reference.clone(),
        root_path: args.root_path.trim_matches('/').to_owned(),
        development: args.development,
        distributors: args.distributor.clone(),
        relays: Vec::new(),
        identity_source: IdentitySource::Issuer,
        min_proxy: None,
    };
    let root = first_trust_root(&ceremony, &settings)?;
    let ca = authority::root(&args.trust_domain, now.as_secs())?;
    let intermediate =
        authority::intermediate(&args.trust_domain, now.as_secs(), &ca.key, &ca.pem)?;
    let bundle = TrustBundle {
        trust_domain: scope.trust_domain.clone(),
        version: 1,
        x509_authorities: vec![ca.der.clone()],
    };
    let issued_ms = u64::try_from(now.as_millis()).map_err(|_beyond| KeygenError::Clock)?;
    let revocations = Revocations {
        version: 1,
        issued_ms,
        entries: Vec::new(),
    };

    let out = place
        .folder
        .as_ref()
        .map_or_else(|| args.out.clone(), |folder| folder.join(&args.out));
    let (keys_folder, trust_folder) = (out.join("keys"), out.join("trust"));
    make_folder(&out)?;
    new_folder(&keys_folder)?;
    new_folder(&trust_folder)?;
    for ((role, purpose), seed) in ROLES.iter().zip(&seeds) {
        let text = key_file::text(
            &format!("{} {} {role}: {purpose}", args.mesh, args.environment),
            seed,
        );
        write(
            PRIVATE,
            &keys_folder.join(format!("{role}.key")),
            text.as_bytes(),
        )?;
    }
    write(PRIVATE, &keys_folder.join("ca.key"), ca.key.as_bytes())?;
    write(
        PRIVATE,
        &keys_folder.join("intermediate.key"),
        intermediate.key.as_bytes(),
    )?;
    write(PUBLIC, &trust_folder.join("ca.pem"), ca.pem.as_bytes())?;
    write(
        PUBLIC,
        &trust_folder.join("intermediate.pem"),
        intermediate.pem.as_bytes(),
    )?;
    write(
        PUBLIC,
        &trust_folder.join("trust-bundle.envelope"),
        &bundle.seal(&scope, &[trust_key]).encode(),
    )?;
    write(
        PUBLIC,
        &trust_folder.join("revocations.envelope"),
        &revocations.seal(&scope, &[issuer_key]).encode(),
    )?;
    // Last: whoever finds it finds all the rest.
    let sealed = root.seal(&[root_key]);
    write(
        PUBLIC,
        &trust_folder.join("trust-root.1.envelope"),
        &sealed.encode(),
    )?;

    let digest = sealed.payload_digest().to_string();
    let text = match args.format {
        Format::Json => json::line(&Made {
            trust_root: digest,
            folder: out.display().to_string(),
            mesh: &args.mesh,
            environment: &args.environment,
            trust_domain: &args.trust_domain,
        })?,
        Format::Human => summary(&out, &digest),
    };
    output::data(&text)?;
    Ok(Exit::Clean)
}

fn summary(out: &Path, digest: &str) -> String {
    let mut lines = vec![
        format!("trust root 1 is {digest}"),
        format!("written to {}:", out.display()),
    ];
    lines.extend(ROLES.iter().map(|(role, purpose)| {
        format!("  keys/{role:<16} {purpose}", role = format!("{role}.key"))
    }));
    lines
        .push("  keys/ca.key           signs intermediate authorities; keep it offline".to_owned());
    lines.push(
        "  keys/intermediate.key signs certificates; the distributor that issues them".to_owned(),
    );
    lines.push(
        "  trust/                public: roots, trust bundle, revocations, certificates".to_owned(),
    );
    lines.join("\n") + "\n"
}

fn make_folder(path: &Path) -> Result<(), KeygenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| KeygenError::Write {
        path: path.to_path_buf(),
        source,
    })
}

fn new_folder(path: &Path) -> Result<(), KeygenError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeygenError::Exists(path.to_path_buf()),
            _ => KeygenError::Write {
                path: path.to_path_buf(),
                source,
            },
        })
}

/// Modes of files.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Writes a file. The folder is new, so nothing can be there.
fn write(mode: u32, path: &Path, bytes: &[u8]) -> Result<(), KeygenError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeygenError::Exists(path.to_path_buf()),
        _ => KeygenError::Write {
            path: path.to_path_buf(),
            source,
        },
    })
}
