//! What retries and timeouts do over a call graph: how often one request makes a failing service be
//! called, when it fails at once and when it hangs, how long an answer can take, and which change
//! would do. The definitions D1 to D10 are numbered in the design's retry model.
//!
//! Circuit breakers and outlier ejection never lower these numbers: they act after the fact.

mod amplification;
mod budget;
mod change;
mod expectation;
mod failure;
mod paths;
mod report;
mod response;
mod rounds;
mod windows;

pub use amplification::{Amplification, Hop, Way, Worst, ways};
pub use budget::{Sustained, Traffic, sustained, throttle_balance};
pub use change::{Change, Proposal, smallest_change};
pub use expectation::{Expectation, Load, client_failure, expected_calls, load_state};
pub use failure::Failure;
pub use paths::{Mode, Paths, WorstPath};
pub use report::{EdgeReport, Question, Report, ServiceReport, SubsetReport};
pub use response::ResponseBounds;
pub use rounds::{Round, rounds};
pub use windows::{SlowCalls, overlap, slow_calls, slow_calls_abandoned};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod storms;
#[cfg(test)]
mod tests;
