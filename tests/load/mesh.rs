//! `web` on one host calls everything else, which is on the second: HTTP, gRPC and bytes behind one proxy.

use mesh_tests::Failure;
use mesh_tests::netns::Mesh;

use crate::memory::Memory;

const POLICIES: &str = r#"
mesh netns {
    trust-domain "netns.example"
    defaults { timeout "10m" connect="10s" stream-idle="10m" }
}

service web {
    port 8080
    endpoints { static "10.7.0.1:8080" }
    calls files
    calls pages
    calls pages2
    calls streams
    calls vault
}

service files {
    port 8080
    identity "spiffe://netns.example/service/storage"
    address "10.96.0.40"
    endpoints { static "10.7.0.2:8080" }
    allow web
}

service pages {
    port 8081
    identity "spiffe://netns.example/service/storage"
    address "10.96.0.41"
    endpoints { static "10.7.0.2:8081" }
    allow web
}

service pages2 {
    port 8082
    identity "spiffe://netns.example/service/storage"
    address "10.96.0.42"
    endpoints { static "10.7.0.2:8082" }
    allow web
}

service streams {
    port 9090 protocol=grpc
    identity "spiffe://netns.example/service/storage"
    address "10.96.0.20"
    endpoints { static "10.7.0.2:9090" }
    allow web
}

service vault {
    port 7000 protocol=tcp
    identity "spiffe://netns.example/service/storage"
    address "10.96.0.30"
    endpoints { static "10.7.0.2:7000" }
    allow web
}
"#;

/// Where the services are called.
pub(crate) const FILES: &str = "10.96.0.40:8080";
/// Of HTTP/2.
pub(crate) const PAGES: &str = "10.96.0.42:8082";
pub(crate) const STREAMS: &str = "10.96.0.20:9090";
pub(crate) const VAULT: &str = "10.96.0.30:7000";

/// The mesh, without applications.
pub(crate) fn start() -> Result<Mesh, Failure> {
    let mut mesh = Mesh::distribute(POLICIES)?;
    for (at, service) in [(0, "web"), (1, "storage")] {
        mesh.proxy(at, service, &[])?;
        mesh.redirect(at, &["--direction", "both"])?;
    }
    Ok(mesh)
}

/// The memory of the calling and of the called proxy.
pub(crate) fn memory(mesh: &Mesh) -> Result<[Memory; 2], Failure> {
    let of = |at| mesh.process(at).map(Memory::of);
    Ok([of(0)?, of(1)?])
}
