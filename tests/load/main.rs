//! Much of everything through two proxies with mTLS: requests for as long as asked, bodies and streams of any size,
//! connections that lie idle. Each case prints what it measured. The sizes here are those of CI;
//! `cargo xtask load --long` runs them whole.

mod idle;
mod memory;
mod mesh;
mod requests;
mod streams;

/// Whether the cases have their whole size.
fn is_long() -> bool {
    std::env::var_os("MESH_LOAD").is_some_and(|size| size == "long")
}

/// Prints past the harness that keeps what passing tests say.
fn say(line: &str) {
    use std::io::Write as _;
    // Without a terminal nobody reads it.
    drop(writeln!(std::io::stderr(), "{line}"));
}
