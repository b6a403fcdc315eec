//! How many descriptors the programs may have that a suite starts: what this process may, they may.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Failure;

/// Raises the bound to what is wanted, or as far as that is allowed; gives the bound that holds now.
pub fn allow_descriptors(wanted: u64) -> Result<u64, Failure> {
    let bound = || getrlimit(Resource::RLIMIT_NOFILE).map_err(std::io::Error::from);
    let (soft, hard) = bound()?;
    if soft < wanted {
        // Only a privileged user may go beyond the hard bound.
        let wanted_at_most = hard.max(wanted);
        let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted_at_most)
            .or_else(|_not_allowed| setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted), hard));
        raised.map_err(std::io::Error::from)?;
    }
    Ok(bound()?.0)
}
