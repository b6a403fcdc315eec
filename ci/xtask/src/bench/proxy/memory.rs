//! Resident memory: after the start, and with many connections that were used once.

use mesh_tests::Failure;
use serde::Serialize;

use super::contender::{Ground, Way};
use super::load::Held;

pub(super) const NAME: &str = "resident memory, MiB, one hop, HTTP/1.1";
const CONNECTIONS: &str = "1000";

/// Of one contender.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    pub(super) name: &'static str,
    pub(super) idle_mib: f64,
    pub(super) connected_mib: f64,
}

/// Measures everybody, freshly started.
pub(super) fn measure(ground: &Ground<'_>, path: &str) -> Result<Vec<Memory>, Failure> {
    let (contenders, _missing) = ground.contenders(Way::Http1)?;
    let words = [
        "--kind",
        "http1",
        "--path",
        path,
        "--connections",
        CONNECTIONS,
    ];
    let patience = ["--millis", "60000"];
    let words: Vec<String> = words
        .iter()
        .chain(&patience)
        .map(|word| (*word).to_owned())
        .collect();
    let each = contenders.iter().map(|contender| {
        let idle_mib = contender.resident_mib()?;
        let held = Held::open(contender.entry, &words)
            .map_err(|failure| failure.while_doing(contender.name))?;
        let connected_mib = contender.resident_mib()?;
        drop(held);
        Ok(Memory {
            name: contender.name,
            idle_mib,
            connected_mib,
        })
    });
    each.collect()
}
