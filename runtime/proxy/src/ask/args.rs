//! The arguments of `meshp admin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Arguments of `meshp admin`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AdminArguments {
    /// The admin socket of the proxy.
    #[arg(
        long,
        global = true,
        value_name = "SOCKET",
        default_value = "meshp.sock"
    )]
    pub(crate) socket: PathBuf,
    /// How the answer is written.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "human",
        hide_possible_values = true
    )]
    pub(crate) format: Format,
    /// What to ask.
    #[command(subcommand)]
    pub(crate) command: AdminCommand,
}

/// How an answer is written: human, json.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables.
    Human,
    /// One JSON document.
    Json,
}

/// What a running proxy is asked, or told.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Who it is, what it serves, and where it listens
    Status,
    /// Whether traffic should be sent to it; ends with 1 if not
    Ready,
    /// The slice that it serves, decoded: all that policy says to it
    Slice {
        /// Only what is said of this callee.
        callee: Option<String>,
    },
    /// Which route wins, in which order, and with which times and tries
    Routes {
        /// Only those of this service, or gateway.
        service: Option<String>,
        /// Rows at most.
        #[arg(long, value_name = "COUNT", default_value = "1000")]
        limit: usize,
    },
    /// The endpoints of callees: which may be picked, and which are left out, why and for how long
    Endpoints {
        /// Only those of this service.
        service: Option<String>,
        /// Rows at most.
        #[arg(long, value_name = "COUNT", default_value = "1000")]
        limit: usize,
    },
    /// Limits, retry budgets and rates, and how much of them is used
    Pools {
        /// Only those of this service.
        service: Option<String>,
        /// Rows at most.
        #[arg(long, value_name = "COUNT", default_value = "1000")]
        limit: usize,
    },
    /// The endpoints that came beside the slice, with their labels and identities
    Discovered,
    /// The connections that are open
    Connections {
        /// Rows at most; the oldest are shown first.
        #[arg(long, value_name = "COUNT", default_value = "100")]
        limit: usize,
    },
    /// What it logs; with a filter, what it logs from now on, until it ends
    LogLevel {
        /// Such as `info,meshp=debug`.
        filter: Option<String>,
    },
    /// Have it end as SIGTERM does
    Drain,
}
