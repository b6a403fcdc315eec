//! `mesh-load`: what stands before and behind a proxy that is measured. A server that answers at once, and
//! clients that count and time what comes back. It knows nothing of any proxy.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod bytes_through;
mod certificates;
mod grpc;
mod handshakes;
mod http1;
mod report;
mod server;
mod steady;

/// Why something could not be measured.
type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Load for benchmarks of proxies")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer HTTP/1.1, gRPC and bytes, until standard input ends.
    Serve(Serve),
    /// Send as fast as answers come, or at a rate, and print what came of it as JSON.
    Drive(Drive),
    /// Make an authority and a certificate of it for each name.
    Certificates {
        /// The folder to write to.
        out: PathBuf,
        /// Host names, or SPIFFE IDs.
        names: Vec<String>,
    },
}

#[derive(Args)]
struct Serve {
    /// Where HTTP/1.1 is answered.
    #[arg(long)]
    http1: Option<SocketAddr>,
    /// Where gRPC is answered.
    #[arg(long)]
    grpc: Option<SocketAddr>,
    /// Where bytes are taken, and dropped.
    #[arg(long)]
    bytes: Option<SocketAddr>,
}

#[derive(Args, Clone)]
struct Drive {
    /// What is sent.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Where to.
    #[arg(long)]
    to: SocketAddr,
    /// The host that is asked for.
    #[arg(long, default_value = "server")]
    host: String,
    /// Paths that are asked for in turn, commas between them.
    #[arg(long, default_value = "/", value_delimiter = ',')]
    path: Vec<String>,
    /// Bytes of each request's body.
    #[arg(long, default_value_t = 0)]
    body: usize,
    /// Connections.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Streams on each connection that are open at once.
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// How long, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    millis: u64,
    /// Requests per second, whether or not answers come; without it as fast as these do.
    #[arg(long)]
    rate: Option<f64>,
    /// The authority that handshakes are checked with.
    #[arg(long)]
    trust: Option<PathBuf>,
    /// After it the connections stay until standard input ends; a line says so.
    #[arg(long)]
    hold: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Requests over HTTP/1.1.
    Http1,
    /// Unary calls.
    Grpc,
    /// A TLS connection for each request.
    Handshakes,
    /// Bytes, as many as go through.
    Bytes,
}

#[expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "what it prints is what it is for"
)]
fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(Some(text)) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<Option<String>, Failure> {
    let drive = match command {
        Command::Certificates { out, names } => {
            certificates::write(&out, &names)?;
            return Ok(None);
        }
        Command::Serve(serve) => {
            runtime()?.block_on(server::run(&serve))?;
            return Ok(None);
        }
        Command::Drive(drive) => drive,
    };
    let report = match (drive.kind, drive.rate) {
        (Kind::Http1, Some(rate)) => steady::run(&drive, rate)?,
        (_, Some(_)) => return Err("only requests over HTTP/1.1 are sent at a rate".into()),
        (Kind::Http1, None) => runtime()?.block_on(http1::run(&drive))?,
        (Kind::Grpc, None) => runtime()?.block_on(grpc::run(&drive))?,
        (Kind::Handshakes, None) => runtime()?.block_on(handshakes::run(&drive))?,
        (Kind::Bytes, None) => runtime()?.block_on(bytes_through::run(&drive))?,
    };
    Ok(Some(serde_json::to_string(&report)?))
}

/// One thread: what is measured has the other processor.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
