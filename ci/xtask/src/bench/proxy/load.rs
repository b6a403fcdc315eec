//! `mesh-load`, started: the application behind the proxies and the clients before them.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use mesh_tests::{Failure, Running, program, run};
use serde::Deserialize;

use super::machine::{OTHERS, free_port, on, wait_listening};

/// What one run of `mesh-load drive` saw.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Driven {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) failure: Option<String>,
}

/// Drives once, to the end. `words` say what is sent.
pub(super) fn drive(to: SocketAddr, words: &[String]) -> Result<Driven, Failure> {
    let mut command = on(OTHERS, program("mesh-load")?);
    command.args(["drive", "--to", &to.to_string()]).args(words);
    let output = run(&mut command)?;
    let driven: Driven = serde_json::from_slice(&output.stdout)?;
    if driven.done == 0 {
        let why = driven.failure.unwrap_or_default();
        return Err(Failure::new(format!("nothing came through: {why}")));
    }
    Ok(driven)
}

/// Connections that were used once and stay open; dropped, they close.
pub(super) struct Held {
    child: Child,
    // It still has something to say.
    _said: Option<BufReader<ChildStdout>>,
}

impl Held {
    /// Opens them.
    pub(super) fn open(to: SocketAddr, words: &[String]) -> Result<Self, Failure> {
        let mut command = on(OTHERS, program("mesh-load")?);
        command
            .args(["drive", "--hold", "--to", &to.to_string()])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        let mut said = child.stdout.take().map(BufReader::new);
        if let Some(said) = &mut said {
            said.read_line(&mut line)?;
        }
        if line.trim() == "holding" {
            return Ok(Self { child, _said: said });
        }
        child.wait()?;
        Err(Failure::new("the connections could not be opened"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// The application.
pub(super) struct Application {
    // What runs is kept by its input.
    _process: Running,
    pub(super) http1: SocketAddr,
    pub(super) grpc: SocketAddr,
    pub(super) bytes: SocketAddr,
}

impl Application {
    /// Starts it.
    pub(super) fn start() -> Result<Self, Failure> {
        let (http1, grpc, bytes) = (free_port()?, free_port()?, free_port()?);
        let mut command = on(OTHERS, program("mesh-load")?);
        command.arg("serve").stdin(Stdio::piped());
        for (name, address) in [("--http1", http1), ("--grpc", grpc), ("--bytes", bytes)] {
            command.args([name, &address.to_string()]);
        }
        let mut process = Running::start(&mut command)?;
        wait_listening(&mut process, bytes)?;
        Ok(Self {
            _process: process,
            http1,
            grpc,
            bytes,
        })
    }
}

/// Makes certificates for those who have no distributor.
pub(super) fn certificates(folder: &Path) -> Result<(), Failure> {
    let mut command = std::process::Command::new(program("mesh-load")?);
    command
        .arg("certificates")
        .arg(folder)
        .args(["client", "server"]);
    run(&mut command).map(drop)
}
