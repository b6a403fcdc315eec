//! The arguments of `meshd`. Keys come by file, never by argument or environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::join_file::is_address;
use mesh_daemon::telemetry::log_filter;

use crate::duration;

/// Follows a repository of mesh policies and streams each proxy its own verified slice.
#[derive(Debug, Parser)]
#[command(name = "meshd", version, about, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands of `meshd`.
#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it, for a moment"
)]
pub(crate) enum Command {
    /// Follow a ref, compile and sign its commits, issue identities, serve the proxies.
    Serve(ServeArguments),
    /// Show the head and what each proxy reports.
    Status(StatusArguments),
    /// List the proxies that serve a commit, and why the others do not.
    Where(WhereArguments),
    /// Create a join file, with which one proxy enrols once.
    Token(TokenArguments),
    /// Have the certificates of an identity, an enrolment or a key refused everywhere, from now on.
    ///
    /// Every proxy is told at once and ends its connections with them within seconds. A revert of the policies
    /// changes nothing of it.
    Revoke(RevokeArguments),
    /// Show where the replacement of a certificate authority stands, and for whom it waits.
    Rotation(StatusArguments),
    /// Ask every proxy to renew its certificate, as while an authority is being replaced.
    Renew(RenewArguments),
    /// Look at the followed ref now.
    Trigger(SocketArgument),
    /// Run a whole mesh on this machine, from one policy repository.
    Dev(crate::dev::DevArguments),
    /// Stand in for an application.
    #[command(hide = true)]
    Echo(crate::echo::EchoArguments),
}

/// Arguments of `meshd serve`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArguments {
    /// Repository to follow, bare or not.
    #[arg(long, value_name = "PATH")]
    pub(crate) repository: PathBuf,
    /// Ref to follow; it must be the one that the trust root pins [default: that one].
    #[arg(long = "ref", value_name = "REF")]
    pub(crate) reference: Option<String>,
    /// Folder of the mesh in the repository; it must be the one that the trust root pins [default: that one].
    #[arg(long, value_name = "PATH")]
    pub(crate) root_path: Option<String>,
    /// Environment to compile; it must be the one that the trust root pins [default: that one].
    #[arg(long, visible_alias = "env", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// Folder that `meshc keygen` wrote: keys and trust roots.
    #[arg(long, value_name = "DIR")]
    pub(crate) trust: PathBuf,
    /// Folder for what outlives a restart; made when missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Where proxies connect.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7443")]
    pub(crate) listen: SocketAddr,
    /// Address that join files tell the proxies; repeatable [default: what --listen bound].
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    pub(crate) advertise: Vec<String>,
    /// Unix socket for status, tokens and triggers.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// Where `POST /hook` is taken; loopback only.
    #[arg(long, value_name = "ADDR")]
    pub(crate) hook: Option<SocketAddr>,
    /// Where metrics are read.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Writes the bound addresses to this file, as JSON, once it serves.
    #[arg(long, value_name = "FILE")]
    pub(crate) ports: Option<PathBuf>,
    /// How often to look at the ref when no hook calls.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub(crate) poll: Duration,
    /// Life of the certificates that it issues.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration::parse)]
    pub(crate) svid_life: Duration,
    /// Unix socket at which proxies of this machine get a join file by the user that they run as.
    #[arg(long, value_name = "PATH", requires = "attest_user")]
    pub(crate) attest_socket: Option<PathBuf>,
    /// Who a user is at that socket, by its number; repeatable.
    #[arg(long, value_name = "UID=SPIFFE_ID", requires = "attest_socket", value_parser = user)]
    pub(crate) attest_user: Vec<(u32, SpiffeId)>,
    /// Name of this distributor in the trust root.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) name: String,
    /// What to log, such as `info` or `warn,meshd=debug`.
    #[arg(long, value_name = "FILTER", env = "MESHD_LOG", default_value = "info", value_parser = log_filter)]
    pub(crate) log: String,
    /// Set by `meshd dev`, which alone may serve a development trust root.
    #[arg(long, hide = true)]
    pub(crate) started_by_dev: bool,
    /// Ends when standard input does, and so with whoever started it.
    #[arg(long, hide = true)]
    pub(crate) end_with_stdin: bool,
}

/// Where a running distributor is asked.
#[derive(Clone, Debug, Args)]
pub(crate) struct SocketArgument {
    /// Unix socket of the distributor.
    #[arg(long, value_name = "PATH", default_value = "meshd.sock")]
    pub(crate) socket: PathBuf,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table.
    Human,
    /// See `meshd status` in the output contract.
    Json,
}

/// Arguments of `meshd status`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

/// Arguments of `meshd where`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhereArguments {
    /// Commit, or the first characters of one.
    pub(crate) commit: String,
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

/// Arguments of `meshd token`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenArguments {
    /// SPIFFE ID that the proxy will get.
    pub(crate) identity: String,
    /// File to create; it must not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// How long the token is valid, 10 minutes at most.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    pub(crate) life: Duration,
    /// Also for an identity that the policies that are served don't have; it can enrol once they do.
    #[arg(long)]
    pub(crate) early: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
}

/// Arguments of `meshd renew`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RenewArguments {
    /// Over how long the proxies spread, an hour at most.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub(crate) within: Duration,
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
}

/// Arguments of `meshd revoke`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("subject").required(true))]
pub(crate) struct RevokeArguments {
    /// SPIFFE ID whose certificates are revoked.
    #[arg(group = "subject")]
    pub(crate) identity: Option<String>,
    /// Enrolment whose certificates are revoked: what the log and `meshd status` call it.
    #[arg(long, value_name = "ID", group = "subject")]
    pub(crate) enrolment: Option<String>,
    /// Key of one certificate: the SHA-256 of its public key, or a PEM file of the certificate.
    #[arg(long, value_name = "SHA256|FILE", group = "subject")]
    pub(crate) leaf_key: Option<String>,
    /// Key of an authority, with every certificate below it: the SHA-256 of its public key, or a PEM file of its certificate.
    #[arg(long, value_name = "SHA256|FILE", group = "subject")]
    pub(crate) issuer_key: Option<String>,
    /// Show what is revoked, by this issuer and by others.
    #[arg(long, group = "subject", conflicts_with_all = ["issued_before", "reason", "take_back"])]
    pub(crate) list: bool,
    /// Only certificates that were issued before this moment: `now`, or as in 2027-03-01T12:00:00Z [default: all, also those to come].
    #[arg(long, value_name = "TIME")]
    pub(crate) issued_before: Option<String>,
    /// Why, for whoever reads the list later.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) reason: String,
    /// Take the revocation back.
    #[arg(long, conflicts_with_all = ["issued_before", "reason"])]
    pub(crate) take_back: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgument,
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

fn user(text: &str) -> Result<(u32, SpiffeId), String> {
    let (uid, id) = text.split_once('=').ok_or("is not UID=SPIFFE_ID")?;
    let uid = uid
        .parse()
        .map_err(|_text| format!("{uid:?} is not the number of a user"))?;
    let id = SpiffeId::parse(id).map_err(|error| error.to_string())?;
    Ok((uid, id))
}

fn host_port(text: &str) -> Result<String, String> {
    if is_address(text) {
        Ok(text.to_owned())
    } else {
        Err("is not HOST:PORT".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_user_is_a_number_and_an_identity() {
        assert_eq!(user("1001=spiffe://a.example/b").unwrap().0, 1001);
        for bad in [
            "1001",
            "web=spiffe://a.example/b",
            "1001=b",
            "-1=spiffe://a.example/b",
        ] {
            assert!(user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_no_proxy_could_use_is_not_advertised() {
        assert!(host_port("mesh.internal:7443").is_ok());
        assert!(host_port("[::1]:7443").is_ok());
        for bad in ["mesh.internal", ":7443", "mesh:0", "mesh:70000", ""] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }
}
