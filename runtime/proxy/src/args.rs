//! The arguments of `meshp`: a handful of settings, everything else arrives signed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use mesh_bundle::slice::{AccessLogFormat, Label};
use mesh_daemon::telemetry::log_filter;

use crate::access_log::{Only, only};
use crate::ask::args::AdminArguments;
use crate::data_plane::{AccessLogTarget, PortBinding};
use crate::gateway::sockets::ListenAddress;
use crate::limits::{self, Setting};
use crate::redirect::args::{RedirectCommand, net};
use crate::secrets::SecretPath;

/// The proxy of the mesh: it stands beside one instance of a workload.
#[derive(Debug, Parser)]
#[command(name = "meshp", version, about, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands of `meshp`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Carry traffic by the policy of a mesh.
    Run(Box<RunArguments>),
    /// Ask a running proxy, or tell it something, over its admin socket.
    Admin(AdminArguments),
    /// Send the connections of this host, or network namespace, through its proxy without its applications knowing.
    #[command(subcommand)]
    Redirect(RedirectCommand),
}

/// Arguments of `meshp run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArguments {
    /// Takes the listening sockets over from the proxy that runs with this admin socket, without a refused connection;
    /// starts as usual if there is none.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Folder for what outlives a restart; made when missing, mode 0700.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: PathBuf,
    /// Join file, needed once; it is removed when the proxy has enrolled. Or the Unix socket of an issuer on this machine
    /// (`meshd serve --attest-socket`), which knows the proxy by its user.
    #[arg(long, value_name = "FILE")]
    pub(crate) join: Option<PathBuf>,
    /// Where the local application sends its calls.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15001")]
    pub(crate) outbound: SocketAddr,
    /// Also takes the connections that `meshp redirect` sends here, in and out.
    #[arg(long)]
    pub(crate) intercept: bool,
    /// Where redirected connections are taken that come in.
    #[arg(
        long,
        value_name = "PORT",
        default_value = "15006",
        requires = "intercept"
    )]
    pub(crate) inbound_port: u16,
    /// A port of the service, where peers reach it and where the application listens; repeatable. With --intercept
    /// only what is not on loopback under the port that peers dial: PORT=APPLICATION.
    #[arg(long = "port", value_name = "PORT=INBOUND,APPLICATION", value_parser = port_binding)]
    pub(crate) ports: Vec<PortBinding>,
    /// Where a gateway's listener, or one for a callee of bytes, is opened, `*` for any other; repeatable [default: as policy says].
    #[arg(long = "listen", value_name = "PORT=ADDR", value_parser = listen_address)]
    pub(crate) listen: Vec<ListenAddress>,
    /// A proxy in front of a gateway that may say who the client is, where policy takes that from the PROXY protocol;
    /// repeatable.
    #[arg(long = "trusted-proxy", value_name = "CIDR", value_parser = net)]
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Key material for a name that policy uses: a PEM file, or a folder with tls.crt and tls.key; read again when it changes; repeatable.
    #[arg(long = "secret", value_name = "NAME=FILE", value_parser = secret)]
    pub(crate) secrets: Vec<SecretPath>,
    /// What answers in place of every external service, in plaintext; for development.
    #[arg(long, value_name = "ADDR")]
    pub(crate) stand_in: Option<SocketAddr>,
    /// Where metrics are read, at /metrics.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15090")]
    pub(crate) metrics: SocketAddr,
    /// Tells the metrics of requests and connections under Istio's names as well, for dashboards that know those.
    #[arg(long)]
    pub(crate) istio_metrics: bool,
    /// Where readiness is asked, at /ready.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15021")]
    pub(crate) health: SocketAddr,
    /// Unix socket, for its own user alone, where `meshp admin` asks.
    #[arg(long, value_name = "SOCKET", default_value = "meshp.sock")]
    pub(crate) admin: PathBuf,
    /// Name of this instance, unique among those of its identity and the same after a restart.
    #[arg(long, value_name = "ID", default_value = "1")]
    pub(crate) instance: String,
    /// A label of this instance; repeatable.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<Label>,
    /// Where the access log goes: stdout, none, or a file that is appended to.
    #[arg(long, value_name = "TARGET", default_value = "stdout", value_parser = access_log)]
    pub(crate) access_log: AccessLogTarget,
    /// How records are written where policy does not say; text has the fields of Envoy's default format.
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    pub(crate) access_log_format: LogFormatArgument,
    /// Which records are written where policy does not say: errors, status=5xx, slower-than=1s, route=NAME, sample=1/100;
    /// of several joined by commas all must hold, of several options one.
    #[arg(long, value_name = "FILTER", value_parser = only)]
    pub(crate) access_log_only: Vec<Only>,
    /// From SIGTERM until requests and connections that still run are cut.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
    /// How much of that new connections are taken, while whoever sends them notices that /ready says no [default: 5s, but
    /// no more than --drain-timeout].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) drain_notice: Option<Duration>,
    /// Writes the bound addresses to this file, as JSON.
    #[arg(long = "ports", value_name = "FILE")]
    pub(crate) ports_file: Option<PathBuf>,
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = Setting::parse, help = limits::help())]
    pub(crate) limits: Vec<Setting>,
    /// Threads that carry traffic [default: one per core that the CPU quota allows].
    #[arg(long, value_name = "COUNT")]
    pub(crate) workers: Option<std::num::NonZeroUsize>,
    /// What is logged to standard error, such as `info,meshp=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = log_filter)]
    pub(crate) log: String,
    /// Ends when standard input does, so that it never outlives the process that started it.
    #[arg(long, hide = true)]
    pub(crate) end_with_stdin: bool,
}

/// What `--drain-notice` is unless given.
const DRAIN_NOTICE: Duration = Duration::from_secs(5);

/// Nothing would be left of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--drain-notice {notice:?} is longer than --drain-timeout {limit:?}, of which it is a part"
)]
pub(crate) struct NoticeTooLong {
    notice: Duration,
    limit: Duration,
}

impl RunArguments {
    /// How much of the drain new connections are taken.
    pub(crate) fn notice(&self) -> Result<Duration, NoticeTooLong> {
        let limit = self.drain_timeout;
        match self.drain_notice {
            None => Ok(DRAIN_NOTICE.min(limit)),
            Some(notice) if notice > limit => Err(NoticeTooLong { notice, limit }),
            Some(notice) => Ok(notice),
        }
    }
}

/// The format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormatArgument {
    /// One object per line.
    Json,
    /// Envoy's default format.
    Text,
}

impl From<LogFormatArgument> for AccessLogFormat {
    fn from(format: LogFormatArgument) -> Self {
        match format {
            LogFormatArgument::Json => Self::Json,
            LogFormatArgument::Text => Self::Text,
        }
    }
}

fn port_binding(text: &str) -> Result<PortBinding, String> {
    let shape = || "is not PORT=INBOUND,APPLICATION".to_owned();
    let (port, addresses) = text.split_once('=').ok_or_else(shape)?;
    let (inbound, application) = match addresses.split_once(',') {
        Some((inbound, application)) => (Some(inbound), application),
        None => (None, addresses),
    };
    let address = |text: &str| {
        text.parse::<SocketAddr>()
            .map_err(|_error| format!("{text} is not an address with a port"))
    };
    let service_port = match port.parse() {
        Ok(0) | Err(_) => return Err(format!("{port} is not a port")),
        Ok(port) => port,
    };
    Ok(PortBinding {
        service_port,
        inbound: inbound.map(address).transpose()?,
        application: address(application)?,
    })
}

fn listen_address(text: &str) -> Result<ListenAddress, String> {
    let (port, address) = text.split_once('=').ok_or("is not PORT=ADDR")?;
    let port = match (port, port.parse()) {
        ("*", _) => None,
        (_, Ok(0) | Err(_)) => return Err(format!("{port} is not a port")),
        (_, Ok(number)) => Some(number),
    };
    let address = address
        .parse()
        .map_err(|_error| format!("{address} is not an address with a port"))?;
    Ok(ListenAddress { port, address })
}

fn secret(text: &str) -> Result<SecretPath, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(SecretPath {
            name: name.to_owned(),
            path: PathBuf::from(path),
        }),
        _ => Err("is not NAME=FILE".to_owned()),
    }
}

fn label(text: &str) -> Result<Label, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Label {
            key: key.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("is not KEY=VALUE".to_owned()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a result")]
fn access_log(text: &str) -> Result<AccessLogTarget, String> {
    Ok(match text {
        "none" => AccessLogTarget::Off,
        "stdout" => AccessLogTarget::Stdout,
        file => AccessLogTarget::File(PathBuf::from(file)),
    })
}

/// A number and `ms`, `s`, `m` or `h`, as in policies.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis_per_unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err("is not a number with ms, s, m or h".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis_per_unit))
        .map(Duration::from_millis)
        .ok_or_else(|| "is not a duration".to_owned())
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
    fn ports_labels_and_durations() {
        let binding = port_binding("9080=127.0.0.1:0,127.0.0.1:8080").unwrap();
        assert_eq!(binding.service_port, 9080);
        assert_eq!(binding.application.port(), 8080);
        assert_eq!(port_binding("80=127.0.0.1:8080").unwrap().inbound, None);
        for bad in ["9080", "0=a,b", "9080=127.0.0.1", "9080=x,127.0.0.1:1"] {
            assert!(port_binding(bad).is_err(), "{bad}");
        }
        let listen = listen_address("8443=127.0.0.1:0").unwrap();
        assert_eq!(listen.port, Some(8443));
        assert_eq!(listen_address("*=127.0.0.1:0").unwrap().port, None);
        for bad in ["8443", "0=127.0.0.1:1", "x=127.0.0.1:1", "8443=localhost"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
        assert_eq!(secret("shop-cert=a=b").unwrap().path, PathBuf::from("a=b"));
        assert!(secret("shop-cert=").is_err());
        assert_eq!(label("version=v1").unwrap().value, "v1");
        assert!(label("version").is_err());
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for bad in ["", "s", "10", "1.5s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_least_that_a_proxy_needs() {
        let arguments = Arguments::try_parse_from(["meshp", "run", "--store", "s"]).unwrap();
        let Command::Run(run) = arguments.command else {
            panic!("it is `run`");
        };
        assert_eq!(run.drain_timeout, Duration::from_secs(20));
        assert_eq!(run.notice(), Ok(Duration::from_secs(5)));
        assert!(Arguments::try_parse_from(["meshp", "run"]).is_err());
    }

    #[test]
    fn a_notice_is_part_of_the_drain() {
        let notice = |options: &[&str]| {
            let words = [&["meshp", "run", "--store", "s"], options].concat();
            match Arguments::try_parse_from(words).unwrap().command {
                Command::Run(run) => run.notice(),
                other => panic!("it is `run`: {other:?}"),
            }
        };
        let short = ["--drain-timeout", "2s"];
        assert_eq!(notice(&short), Ok(Duration::from_secs(2)));
        assert!(notice(&[&short[..], &["--drain-notice", "3s"]].concat()).is_err());
    }
}
