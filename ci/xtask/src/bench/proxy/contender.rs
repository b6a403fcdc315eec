//! Who is measured in a scenario, started and ready.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mesh_tests::{Failure, Running};

use super::hop::{Carries, Hop, Leg};
use super::load::Application;
use super::machine::{cpu_seconds, free_port, resident_mib};
use super::mesh::{GRPC, HTTP, HTTPS, Mesh, Proxy};
use super::{envoy, haproxy, nginx};

/// What a scenario has on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// HTTP/1.1 through one proxy.
    Http1,
    /// HTTP/1.1 through two with mutual TLS between them.
    Http1Twice,
    /// gRPC through one proxy.
    Grpc,
    /// gRPC through two with mutual TLS between them.
    GrpcTwice,
    /// HTTP/1.1 within TLS to one proxy.
    Https,
    /// Bytes through one proxy.
    Bytes,
    /// Bytes through two with mutual TLS between them.
    BytesTwice,
}

/// One who is measured: a proxy, or two behind each other.
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) entry: SocketAddr,
    processes: Vec<Running>,
    /// Ours, to ask what they serve.
    pub(super) proxies: Vec<Proxy>,
}

impl Contender {
    /// Processor time that its proxies have had.
    pub(super) fn cpu_seconds(&self) -> Result<f64, Failure> {
        self.pids().map(cpu_seconds).sum()
    }

    /// Resident memory of its largest proxy.
    pub(super) fn resident_mib(&self) -> Result<f64, Failure> {
        let mut each = self.pids().map(resident_mib);
        each.try_fold(0.0, |largest: f64, one| Ok(largest.max(one?)))
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        let ours = self.proxies.iter().map(|proxy| proxy.process.id());
        self.processes.iter().map(Running::id).chain(ours)
    }
}

/// What all contenders stand on.
pub(super) struct Ground<'g> {
    pub(super) folder: &'g Path,
    pub(super) certificates: PathBuf,
    pub(super) application: &'g Application,
    pub(super) mesh: &'g Mesh,
    /// Prefix routes beside the one that takes all.
    pub(super) routes: usize,
}

type Start = fn(&Path, &Hop) -> Result<Option<Running>, Failure>;
const OTHERS: [(&str, Start); 3] = [
    ("Envoy", envoy::start),
    ("HAProxy", haproxy::start),
    ("nginx", nginx::start),
];

impl Ground<'_> {
    /// Starts whoever can go this way, ours first, and names those that cannot, or are not there.
    pub(super) fn contenders(
        &self,
        way: Way,
    ) -> Result<(Vec<Contender>, Vec<&'static str>), Failure> {
        let mut found = vec![self.ours_alone(way)?];
        let mut missing = Vec::new();
        // Of those behind others there can be one at a time: policy says where.
        if way == Way::Http1 {
            found.push(self.ours(way, "meshp, access log", "access.log")?);
        }
        for (name, start) in OTHERS {
            match self.other(name, start, &self.hops(way)?)? {
                Some(contender) => found.push(contender),
                None => missing.push(name),
            }
        }
        if way == Way::Http1Twice
            && let Some(contender) =
                self.other("Envoy over HTTP/2", envoy::start, &self.over_http2()?)?
        {
            found.push(contender);
        }
        Ok((found, missing))
    }

    /// Ours, without a log.
    pub(super) fn ours_alone(&self, way: Way) -> Result<Contender, Failure> {
        self.ours(way, "meshp", "none")
    }

    fn other(
        &self,
        name: &'static str,
        start: Start,
        hops: &[Hop],
    ) -> Result<Option<Contender>, Failure> {
        let mut processes = Vec::new();
        for hop in hops {
            let started = start(self.folder, hop).map_err(|failure| failure.while_doing(name))?;
            let Some(process) = started else {
                return Ok(None);
            };
            processes.push(process);
        }
        Ok(hops.first().map(|first| Contender {
            name,
            entry: first.listen,
            processes,
            proxies: Vec::new(),
        }))
    }

    /// The proxies of a way, first to last.
    fn hops(&self, way: Way) -> Result<Vec<Hop>, Failure> {
        let (carries, next) = match way {
            Way::Http1 | Way::Http1Twice | Way::Https => (Carries::Http1, self.application.http1),
            Way::Grpc | Way::GrpcTwice => (Carries::Grpc, self.application.grpc),
            Way::Bytes | Way::BytesTwice => (Carries::Bytes, self.application.bytes),
        };
        let last = Hop {
            carries,
            routes: self.routes,
            ..Hop::plain(free_port()?, next, self.certificates.clone())
        };
        Ok(match way {
            Way::Http1 | Way::Grpc | Way::Bytes => vec![last],
            Way::Https => vec![Hop {
                downstream: Leg::Tls,
                ..last
            }],
            Way::Http1Twice | Way::GrpcTwice | Way::BytesTwice => {
                let first = Hop {
                    listen: free_port()?,
                    next: last.listen,
                    upstream: Leg::Mutual,
                    ..last.clone()
                };
                let last = Hop {
                    downstream: Leg::Mutual,
                    ..last
                };
                vec![first, last]
            }
        })
    }

    fn over_http2(&self) -> Result<Vec<Hop>, Failure> {
        let ends = [Carries::Http1AsHttp2, Carries::Http2AsHttp1];
        let hops = self.hops(Way::Http1Twice)?.into_iter().zip(ends);
        Ok(hops.map(|(hop, carries)| Hop { carries, ..hop }).collect())
    }

    fn ours(&self, way: Way, name: &'static str, log: &str) -> Result<Contender, Failure> {
        let entry = free_port()?;
        let places = self.mesh.places;
        let words = |words: &[&str]| -> Vec<String> {
            let log = ["--access-log", log];
            words
                .iter()
                .chain(&log)
                .map(|word| (*word).to_owned())
                .collect()
        };
        let gateway = |port: u16| {
            let secret = format!("server={}", self.certificates.join("server.pem").display());
            let listen = format!("{port}={entry}");
            let all = [
                "--outbound",
                "127.0.0.1:0",
                "--listen",
                &listen,
                "--listen",
                "*=127.0.0.1:0",
            ];
            self.mesh.proxy(
                "gateway/public",
                &words(&[&all[..], &["--secret", &secret]].concat()),
            )
        };
        let caller = |outbound: SocketAddr| {
            let outbound = outbound.to_string();
            self.mesh
                .proxy("service/client", &words(&["--outbound", &outbound]))
        };
        let callee = |service: &str, port: u16, at: SocketAddr, application: SocketAddr| {
            let binding = format!("{port}={at},{application}");
            let identity = format!("service/{service}");
            self.mesh.proxy(
                &identity,
                &words(&["--outbound", "127.0.0.1:0", "--port", &binding]),
            )
        };
        let [http, grpc, bytes] = places.inbound;
        let [far, near] = places.bytes;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut entry = entry;
        let proxies = match way {
            Way::Http1 => vec![gateway(HTTP)?],
            Way::Grpc => vec![gateway(GRPC)?],
            Way::Https => vec![gateway(HTTPS)?],
            Way::Http1Twice => vec![
                callee("server", 9080, http, self.application.http1)?,
                caller(entry)?,
            ],
            Way::GrpcTwice => vec![
                callee("greeter", 9081, grpc, self.application.grpc)?,
                caller(entry)?,
            ],
            Way::Bytes => {
                entry = near;
                vec![caller(any)?]
            }
            Way::BytesTwice => {
                entry = far;
                vec![
                    callee("vault", 9082, bytes, self.application.bytes)?,
                    caller(any)?,
                ]
            }
        };
        Ok(Contender {
            name,
            entry,
            processes: Vec::new(),
            proxies,
        })
    }
}
