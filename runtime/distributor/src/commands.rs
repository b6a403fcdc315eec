//! The commands: one file each.

pub(crate) mod ask;
pub(crate) mod dev;
pub(crate) mod echo;
pub(crate) mod renew;
pub(crate) mod revoke;
pub(crate) mod rotation;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod trigger;
pub(crate) mod whereabouts;
