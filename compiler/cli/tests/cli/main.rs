//! `meshc` as its users run it: few tests, for wiring. What policies mean is tested below.

mod audit;
mod base;
mod baseline;
mod build;
mod check;
mod diff;
mod environments;
mod explain;
mod fmt;
mod graph;
mod init;
mod keygen;
mod lsp;
mod support;
mod terminal;
mod test;
mod trust;
