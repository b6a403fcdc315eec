//! Faults that are made on purpose: a proxy that runs out of something, clients that mean ill, peers that vanish.
//! Each drill prints what it measured. The sizes here are those of CI; `cargo xtask drills --long` runs them whole.

mod backend;
mod broken_answers;
mod bytes;
mod d14_churn;
mod d15_scale;
mod d16_drain;
mod d17_replacement;
mod d21_loops;
mod d22_telemetry;
mod d4_rotation;
mod d5_expiry;
mod d6_clock;
mod descriptors;
mod faketime;
mod half_open;
mod hang_up;
mod memory;
mod operator;
mod revocation;
mod slow_clients;
mod storms;
mod three_hops;

use mesh_tests::loopback as mesh;

/// Whether the drills have the sizes that they are named for.
fn is_long() -> bool {
    std::env::var_os("MESH_DRILLS").is_some_and(|size| size == "long")
}

/// So many when it is asked for, a tenth otherwise.
fn sized(whole: usize) -> usize {
    if is_long() { whole } else { whole / 10 }
}

/// Prints past the harness that keeps what passing tests say.
fn say(line: &str) {
    use std::io::Write as _;
    // Without a terminal nobody reads it.
    drop(writeln!(std::io::stderr(), "{line}"));
}
