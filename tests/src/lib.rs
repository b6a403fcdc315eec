//! The harness of everything that needs more than one crate: real programs, a real repository, real
//! sockets. It knows the programs by their command lines and outputs only, as a user does.

mod descriptors;
mod dev;
mod failure;
mod http;
pub mod loopback;
pub mod netns;
mod process;
mod programs;
mod repository;
mod serving;
mod wait;

pub use descriptors::allow_descriptors;
pub use dev::{Dev, DevOptions, EdgeTraffic, Gateway, Instance, ProxyConfig, Service};
pub use failure::Failure;
pub use http::{Response, http_get, http_request, unix_request};
pub use process::Running;
pub use programs::{program, run, workspace_root};
pub use repository::PolicyRepository;
pub use serving::{until_ready, until_serving};
pub use wait::{wait_until, within};
