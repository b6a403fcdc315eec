//! The end-to-end suite: the programs as users start them, a real repository, real sockets.

mod access;
mod bundles;
mod commits;
mod ending;
mod externals;
mod features;
mod gateways;
mod policy_input;
mod reference;
mod rogue;
mod starting;
mod support;
mod telemetry;
mod wire;
