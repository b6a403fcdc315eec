//! The arguments of `meshc trust`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

/// `meshc trust`
#[derive(Debug, Args)]
pub(crate) struct Trust {
    #[command(subcommand)]
    pub(crate) command: TrustCommand,
}

/// What to do with trust.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Show the chain of trust roots, the certificate authorities and what is revoked.
    Show(ShowTrust),
    /// Have the certificates of an identity, an enrolment or a key refused for good, signed by the trust key.
    ///
    /// Writes trust/revocations.trust.envelope. Copied into the trust folder of a distributor, it reaches every proxy at
    /// once. Only the trust key takes it back.
    Revoke(RevokeTrust),
    /// Make a new intermediate authority under the root authority in use, for a distributor to issue with.
    Intermediate(TrustFolderArgument),
    /// Replace the root authority, in three steps: add, switch, drop. No step loses a connection.
    #[command(subcommand)]
    Authority(AuthorityStep),
}

/// The steps of replacing the root authority.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityStep {
    /// First: make the new authority, and a trust bundle with the old and the new one.
    Add(TrustFolderArgument),
    /// Second, when every proxy has that bundle: make an intermediate authority under the new one.
    Switch(TrustFolderArgument),
    /// Third, when every proxy has a certificate below the new one: make a trust bundle without the old one.
    Drop(TrustFolderArgument),
}

/// The folder that `meshc keygen` wrote.
#[derive(Debug, Args)]
pub(crate) struct TrustFolderArgument {
    /// Folder that `meshc keygen` wrote: keys/ and trust/.
    pub(crate) folder: PathBuf,
    /// How to write what was done.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

/// `meshc trust show`
#[derive(Debug, Args)]
pub(crate) struct ShowTrust {
    /// Folder that `meshc keygen` wrote, or its trust/ alone.
    pub(crate) folder: PathBuf,
    /// How to write it.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

/// `meshc trust revoke`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("subject").required(true))]
pub(crate) struct RevokeTrust {
    /// Folder that `meshc keygen` wrote: keys/ and trust/.
    pub(crate) folder: PathBuf,
    /// SPIFFE ID whose certificates are revoked.
    #[arg(long, value_name = "SPIFFE_ID", group = "subject")]
    pub(crate) identity: Option<String>,
    /// Enrolment whose certificates are revoked.
    #[arg(long, value_name = "ID", group = "subject")]
    pub(crate) enrolment: Option<String>,
    /// Key of one certificate: the SHA-256 of its public key, or a PEM file of the certificate.
    #[arg(long, value_name = "SHA256|FILE", group = "subject")]
    pub(crate) leaf_key: Option<String>,
    /// Key of an authority, with every certificate below it: as above.
    #[arg(long, value_name = "SHA256|FILE", group = "subject")]
    pub(crate) issuer_key: Option<String>,
    /// Only certificates that were issued before: `now`, or the start of a day as in 2027-03-01 (UTC) [default: all].
    #[arg(long, value_name = "TIME")]
    pub(crate) issued_before: Option<String>,
    /// Take the revocation back.
    #[arg(long, conflicts_with = "issued_before")]
    pub(crate) take_back: bool,
    /// Further keys of the trust role, where it takes several; beside keys/trust.key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
    /// How to write what was done.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}
