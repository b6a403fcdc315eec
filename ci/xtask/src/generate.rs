//! `cargo xtask generate`: writes what is derived from declarations and committed.

use std::path::Path;

use mesh_tests::Failure;

const PROTO: &str = "schemas/proto";
const FILES: [&str; 2] = [
    "mesh/bundle/v1/bundle.proto",
    "mesh/distribution/v1/distribution.proto",
];

/// Generates into the workspace, or, with `check`, fails if that would change a file.
pub(crate) fn run(root: &Path, check: bool) -> Result<(), Failure> {
    let scratch = tempfile::tempdir()?;
    protobuf(root, scratch.path())?;
    let outputs = [
        ("bundle/mesh.bundle.v1.rs", "schemas/src/messages/bundle.rs"),
        (
            "distribution/mesh.distribution.v1.rs",
            "schemas/src/messages/distribution.rs",
        ),
        (
            "stubs/mesh.distribution.v1.rs",
            "runtime/daemon/src/rpc/stubs.rs",
        ),
    ];
    let mut stale = Vec::new();
    for (made, committed) in outputs {
        let made = std::fs::read_to_string(scratch.path().join(made))?;
        let committed_path = root.join(committed);
        if std::fs::read_to_string(&committed_path).is_ok_and(|old| old == made) {
            continue;
        }
        if check {
            stale.push(committed);
        } else {
            std::fs::write(&committed_path, made)?;
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "generated files are out of date, run `cargo xtask generate`: {}",
        stale.join(", ")
    )))
}

/// Messages for `mesh-bundle`, gRPC stubs for `mesh-daemon`; protox stands in for protoc.
fn protobuf(root: &Path, out: &Path) -> Result<(), Failure> {
    let proto = root.join(PROTO);
    let descriptors = protox::compile(FILES.map(|file| proto.join(file)), [&proto])
        .map_err(|error| Failure::new(format!("{error:?}")))?;
    // An extern path also says "do not generate", so each package is a run of its own.
    for (package, other) in [("bundle", "distribution"), ("distribution", "bundle")] {
        let folder = out.join(package);
        std::fs::create_dir(&folder)?;
        prost_build::Config::new()
            .out_dir(&folder)
            .extern_path(
                format!(".mesh.{other}.v1"),
                format!("crate::messages::{other}"),
            )
            .compile_fds(descriptors.clone())?;
    }
    let stubs = out.join("stubs");
    std::fs::create_dir(&stubs)?;
    tonic_prost_build::configure()
        .out_dir(&stubs)
        .build_transport(false)
        .extern_path(".mesh.bundle.v1", "::mesh_bundle::messages::bundle")
        .extern_path(
            ".mesh.distribution.v1",
            "::mesh_bundle::messages::distribution",
        )
        .compile_fds(descriptors)?;
    Ok(())
}
