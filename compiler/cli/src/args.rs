//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{
    Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};
use mesh_compiler::DEFAULT_ENVIRONMENT;
use mesh_compiler::date::Date;

use crate::exit_code::Exit;

mod choice;
mod trust;
mod value;

pub(crate) use choice::{
    AuditFormat, CheckFormat, Deny, DiffFormat, Format, GraphFormat, TestFormat,
};
pub(crate) use trust::{
    AuthorityStep, RevokeTrust, ShowTrust, Trust, TrustCommand, TrustFolderArgument,
};
use value::{claim, date, header, percent, rate, ref_name, root_path};

/// Checks, builds, tests and explains mesh policies.
#[derive(Debug, Parser)]
#[command(name = "meshc", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: Place,
}

/// What a command is about; every command takes these.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// The policy root, or a folder in or above it.
    #[arg(short = 'C', id = "directory", value_name = "DIR", global = true)]
    pub(crate) folder: Option<PathBuf>,
    /// The environment to compile for; without it `default`, and `check` and `test` also every declared one.
    #[arg(long = "env", value_name = "NAME", global = true)]
    pub(crate) environment: Option<String>,
    /// The day on which suppressions are judged, as in 2027-03-01; without it the clock's, or a commit's own.
    #[arg(long, value_name = "DATE", global = true, value_parser = date)]
    pub(crate) today: Option<Date>,
    /// When to write colours and links; `auto` goes by the terminal, `NO_COLOR` and `CLICOLOR_FORCE`.
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        global = true
    )]
    pub(crate) color: Color,
}

/// When output has colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal that shows them.
    #[default]
    Auto,
    /// Also in a pipe or a file.
    Always,
    /// Not at all.
    Never,
}

impl Place {
    /// The environment to compile for.
    pub(crate) fn environment(&self) -> &str {
        self.environment.as_deref().unwrap_or(DEFAULT_ENVIRONMENT)
    }

    /// The day on which suppressions are judged.
    pub(crate) fn today(&self) -> Date {
        self.today.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let seconds = now.map_or(0, |now| now.as_secs());
            Date::from_unix_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
        })
    }
}

/// A command with what it needs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what is wrong with the policies of the work tree.
    Check(Check),
    /// Compile a commit into a generation and its slices.
    Build(Build),
    /// Run the tests of the policies.
    Test(Test),
    /// Say what becomes of a request, or what a code such as MSH0401 means.
    Explain(Explain),
    /// Say what a change means: which requests go elsewhere, who gains or loses access, what retries and timeouts become.
    Diff(Diff),
    /// Print the call graph: what retries and timeouts do over several hops.
    Graph(Graph),
    /// Say who can reach what, through which rule, since which commit, and whether every invariant holds.
    ///
    /// For whoever has to answer for access and does not read policies: every grant with the file and line that makes it
    /// and the commit that wrote it last, what is refused again, what is encrypted, what is reachable from outside, and
    /// which findings somebody has suppressed.
    Audit(Audit),
    /// Lay out policy files in the one way; comments and literals stay as they are written.
    Fmt(Fmt),
    /// Make the keys and first statements of a mesh.
    Keygen(Keygen),
    /// Sign with the offline keys what changes after that: permanent revocations, new certificate authorities.
    Trust(Trust),
    /// Write a first policy repository.
    ///
    /// A mesh of two services, with a split and a first test, that checks clean, and a CI file that checks and tests every change.
    /// Nothing that exists is overwritten.
    Init(Init),
    /// Answer an editor: the Language Server Protocol at standard input and output.
    Lsp(Lsp),
    /// Write the completions of a shell to stdout.
    Completions(Completions),
    /// Write the manual pages.
    Man(Man),
}

/// `meshc check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The policy root, or a folder in or above it.
    pub(crate) folder: Option<PathBuf>,
    /// How to write the findings.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: CheckFormat,
    /// Show people every finding, and not only the gravest 50. Formats for programs always have all.
    #[arg(long)]
    pub(crate) all: bool,
    /// The commit that is deployed: also say what changes from it to the work tree.
    #[arg(long, value_name = "REV")]
    pub(crate) base: Option<String>,
    /// The lowest level that makes the exit code 1.
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "error")]
    pub(crate) deny: Deny,
    /// Also say which files are not formatted (MSH0017); `fmt --check` says what would change.
    #[arg(long)]
    pub(crate) formatting: bool,
    /// Accept the findings that this file lists, and fail on new ones alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Write today's findings to a file, for --baseline.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["baseline", "watch"])]
    pub(crate) write_baseline: Option<PathBuf>,
    /// Go on, and say it again whenever a policy file changes; Ctrl-C ends. With `--format json` each time is one line.
    #[arg(long, conflicts_with = "timings")]
    pub(crate) watch: bool,
    /// Write to a file, as JSON, how long each part of the work took and the memory it needed.
    #[arg(long, value_name = "FILE")]
    pub(crate) timings: Option<PathBuf>,
}

/// `meshc build`
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The policy root, or a folder in or above it.
    pub(crate) folder: Option<PathBuf>,
    /// The commit to compile; without it HEAD, and the work tree must not differ.
    #[arg(long, value_name = "REV")]
    pub(crate) commit: Option<String>,
    /// A compile key to sign with, as `meshc keygen` writes it.
    #[arg(long, value_name = "KEY")]
    pub(crate) sign: Vec<PathBuf>,
    /// The mesh's trust root: gives ref, policy root and epoch, and is checked against the policies.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["reference", "epoch"])]
    pub(crate) trust_root: Option<PathBuf>,
    /// The followed ref.
    #[arg(long = "ref", value_name = "REF", default_value = "refs/heads/main", value_parser = ref_name)]
    pub(crate) reference: String,
    /// The epoch of the trust root.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) epoch: u64,
    /// Where to write the generation and its slices.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// How to write the result.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

/// `meshc test`
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The policy root, or a folder in or above it.
    pub(crate) folder: Option<PathBuf>,
    /// How to write the results.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: TestFormat,
    /// List the routes and rules that no test touches.
    #[arg(long)]
    pub(crate) coverage: bool,
    /// How many of the routes, and of the rules, tests must touch, as in 90%; fewer make the exit code 1.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) min_coverage: Option<u32>,
    /// Write a test for every route and rule that none touches, from a request that the engine has confirmed.
    #[arg(long, conflicts_with_all = ["coverage", "min_coverage", "format"])]
    pub(crate) generate: bool,
    /// The file that `--generate` adds its tests to; without it they are printed.
    #[arg(long, value_name = "FILE", requires = "generate")]
    pub(crate) out: Option<PathBuf>,
}

/// `meshc explain`
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A code such as MSH0401.
    #[arg(required_unless_present = "request", conflicts_with_all = ["request", "from", "to", "header", "host", "port"])]
    pub(crate) code: Option<String>,
    /// A request, as in 'GET /reviews/7'.
    #[arg(long, value_name = "METHOD PATH", requires_all = ["from", "to"])]
    pub(crate) request: Option<String>,
    /// The calling service or gateway, `unauthenticated`, or an identity in full.
    #[arg(long, value_name = "SERVICE", requires = "request")]
    pub(crate) from: Option<String>,
    /// The called service.
    #[arg(long, value_name = "SERVICE", requires = "request")]
    pub(crate) to: Option<String>,
    /// A header.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) header: Vec<(String, String)>,
    /// The host asked for; without it one that names the called service.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// The port of the called service; without it its first.
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// The address of the client, as the gateway establishes it.
    #[arg(long, value_name = "IP")]
    pub(crate) client_ip: Option<IpAddr>,
    /// The address of the connection's peer.
    #[arg(long, value_name = "IP")]
    pub(crate) peer_ip: Option<IpAddr>,
    /// A claim of the verified token.
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    pub(crate) claim: Vec<(String, String)>,
    /// How to write the explanation.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

/// `meshc diff`
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The commit that is deployed, or that a change is to be merged into.
    pub(crate) base: String,
    /// The commit that is compared with it; without it the work tree, as in `git diff BASE`.
    pub(crate) head: Option<String>,
    /// Compare with the last commit that BASE and HEAD have in common, and so leave out what only BASE changed since.
    #[arg(long)]
    pub(crate) merge_base: bool,
    /// Write tests of the new behaviour to a file that is not there yet, or to the standard output (`-`) instead of the
    /// comparison: they pass with the new policies and fail with the old.
    #[arg(long, value_name = "FILE")]
    pub(crate) write_tests: Option<PathBuf>,
    /// Exit with 1 where something changes.
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// How to write the comparison.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: DiffFormat,
}

/// `meshc graph`
#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// The policy root, or a folder in or above it.
    pub(crate) folder: Option<PathBuf>,
    /// The one service that a request from outside comes in at; without it, every entry.
    #[arg(long, value_name = "SERVICE")]
    pub(crate) entry: Option<String>,
    /// How often a call to the failing service fails, 0 to 1.
    #[arg(long, value_name = "Q", value_parser = rate)]
    pub(crate) failure_rate: Option<f64>,
    /// The service that fails; without it, each in turn.
    #[arg(long, value_name = "SERVICE", requires = "failure_rate")]
    pub(crate) failing: Option<String>,
    /// How to write the graph.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: GraphFormat,
}

/// `meshc fmt`
#[derive(Debug, Args)]
pub(crate) struct Fmt {
    /// Files, and folders of policies; without one, the folder of -C. With `-`, stdin, written to stdout.
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Change nothing: show what would change, and exit with 1 if anything would.
    #[arg(long)]
    pub(crate) check: bool,
    /// Read stdin, as if it were this file, and write to stdout.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    pub(crate) stdin_filename: Option<String>,
    /// How to write what was done.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

/// `meshc keygen`
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// Name of the mesh, as in its `mesh` node.
    #[arg(long, value_name = "NAME")]
    pub(crate) mesh: String,
    /// Name of the environment.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ENVIRONMENT)]
    pub(crate) environment: String,
    /// The mesh's trust domain, as in its `mesh` node.
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) trust_domain: String,
    /// The ref that is followed.
    #[arg(long = "ref", value_name = "REF", default_value = "refs/heads/main", value_parser = ref_name)]
    pub(crate) reference: String,
    /// Folder of the policy root in the repository; the top if not given.
    #[arg(long, value_name = "PATH", default_value = "", value_parser = root_path)]
    pub(crate) root_path: String,
    /// Name of a distributor; its identity is `/mesh/distributor/NAME`.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) distributor: Vec<String>,
    /// Marks the mesh as one for development, which only `meshd dev` serves.
    #[arg(long)]
    pub(crate) development: bool,
    /// Where to write; nothing there is overwritten.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// How to write the summary.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

/// `meshc lsp`
#[derive(Debug, Args)]
pub(crate) struct Lsp {
    /// Does nothing: editors that can talk in several ways say so, and this is the one way.
    #[arg(long, hide = true)]
    pub(crate) stdio: bool,
}

/// Whose CI a first repository is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ci {
    /// A workflow in .github/workflows.
    Github,
    /// A .gitlab-ci.yml.
    Gitlab,
    /// None.
    None,
}

/// `meshc init`
#[derive(Debug, Args)]
#[command(
    long_about = "Write a first policy repository: a mesh of two services with a split and a first test, which checks \
    clean, and a CI file that checks and tests every change. Nothing that exists is overwritten."
)]
pub(crate) struct Init {
    /// The folder to write to.
    pub(crate) folder: Option<PathBuf>,
    /// Name of the mesh; without it the folder's.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Whose CI to write a file for; it goes to the top of the git repository that the folder is in.
    #[arg(long, value_enum, value_name = "CI", default_value = "github")]
    pub(crate) ci: Ci,
    /// How to write the list of files.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: Format,
}

/// `meshc completions`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `meshc man`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder to write a page for each command to; without it, the first page goes to stdout.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

/// `meshc audit`
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// The policy root, or a folder in or above it.
    pub(crate) folder: Option<PathBuf>,
    /// How to write it.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) format: AuditFormat,
}

/// The command line as data.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line. Help and version go to stdout, mistakes to stderr.
pub(crate) fn parse() -> Result<(Command, Place), Exit> {
    let matches = command().color(color_of_help()).try_get_matches();
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = cli.map_err(|error| {
        let exit = if error.use_stderr() {
            Exit::CouldNotRun
        } else {
            Exit::Clean
        };
        // Nothing is left to report to if this fails.
        drop(error.print());
        exit
    })?;
    Ok((cli.command, cli.place))
}

/// The `--color` of a command line that may turn out to be wrong.
fn color_of_help() -> ColorChoice {
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        let value = match arg.to_str() {
            Some("--") => break,
            Some("--color") => args.next().and_then(|value| value.into_string().ok()),
            Some(arg) => arg.strip_prefix("--color=").map(str::to_owned),
            None => None,
        };
        match value.as_deref() {
            Some("always") => return ColorChoice::Always,
            Some("never") => return ColorChoice::Never,
            _ => {}
        }
    }
    ColorChoice::Auto
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
