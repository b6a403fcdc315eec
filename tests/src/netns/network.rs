//! Three hosts and a switch between them, each a network namespace of its own that ends with the case,
//! however the case ends. Nothing of this machine's own network is touched.

use std::fs;
use std::io::{PipeWriter, pipe};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::{Failure, Running, run, wait_until};

use super::tools::tool;

/// How long a condition may take to come true before the case has failed.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The user that proxies run as.
pub const PROXY_UID: u32 = 1337;

/// The address of the switch, which is everybody's way out.
pub const SWITCH: &str = "10.7.0.254";

/// A network namespace. It lives as long as a process in it, whose standard input we hold.
#[derive(Debug)]
pub struct Host {
    /// The last part of its addresses, `10.7.0.N` and `fd00:7::N`.
    pub number: u8,
    holder: Running,
    _input: PipeWriter,
}

/// Hosts on one network.
#[derive(Debug)]
pub struct Network {
    /// Has 254 for its number.
    pub switch: Host,
    /// 1, 2 and 3.
    pub hosts: [Host; 3],
}

impl Network {
    pub fn new() -> Result<Self, Failure> {
        let switch = Host::new(254)?;
        switch.run(&["ip", "link", "set", "lo", "up"])?;
        switch.run(&["ip", "link", "add", "eth0", "type", "bridge"])?;
        switch.address()?;
        let hosts = [Host::new(1)?, Host::new(2)?, Host::new(3)?];
        for host in &hosts {
            let port = format!("port{}", host.number);
            let there = host.holder.id().to_string();
            switch.run(&[
                "ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &there,
            ])?;
            switch.run(&["ip", "link", "set", &port, "master", "eth0", "up"])?;
            host.run(&["ip", "link", "set", "lo", "up"])?;
            host.address()?;
            host.run(&["ip", "route", "add", "default", "via", SWITCH])?;
            host.run(&["ip", "route", "add", "default", "via", "fd00:7::fe"])?;
        }
        Ok(Self { switch, hosts })
    }
}

impl Host {
    fn new(number: u8) -> Result<Self, Failure> {
        let (read, input) = pipe()?;
        let mut command = Command::new(tool("unshare")?);
        command.args(["--net", "cat"]).stdin(read);
        let holder = Running::start(command.stdout(Stdio::null()))?;
        let (own, its) = ("/proc/self/ns/net", namespace(&holder));
        wait_until("a network namespace", LIMIT, || {
            if fs::read_link(own)? == fs::read_link(&its)? {
                return Err(Failure::new("it is still ours"));
            }
            Ok(())
        })?;
        Ok(Self {
            number,
            holder,
            _input: input,
        })
    }

    fn address(&self) -> Result<(), Failure> {
        let (v4, v6) = (self.v4(), self.v6());
        self.run(&["ip", "link", "set", "eth0", "up"])?;
        self.run(&["ip", "address", "add", &format!("{v4}/24"), "dev", "eth0"])?;
        let v6 = format!("{v6}/64");
        self.run(&["ip", "address", "add", &v6, "dev", "eth0", "nodad"])
            .map(drop)
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> String {
        format!("10.7.0.{}", self.number)
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> String {
        format!("fd00:7::{:x}", self.number)
    }

    /// The IPv6 address that it has on its link.
    pub fn link_local(&self) -> Result<String, Failure> {
        let text = self.run(&[
            "ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link",
        ])?;
        let mut words = text
            .split_ascii_whitespace()
            .skip_while(|word| *word != "inet6");
        let address = words.nth(1).and_then(|net| net.split_once('/'));
        let address = address.map(|(address, _)| address.to_owned());
        address.ok_or_else(|| Failure::new(format!("no address in {text:?}")))
    }

    /// A program on this host, as root.
    pub fn command(&self, program: impl AsRef<Path>) -> Result<Command, Failure> {
        let mut command = Command::new(tool("nsenter")?);
        command.arg(format!("--net={}", namespace(&self.holder)));
        command.arg("--").arg(program.as_ref());
        Ok(command)
    }

    /// A program on this host, as the user that proxies run as.
    pub fn command_as_proxy(&self, program: &Path) -> Result<Command, Failure> {
        let mut command = self.command(tool("setpriv")?)?;
        command
            .arg(format!("--reuid={PROXY_UID}"))
            .arg(format!("--regid={PROXY_UID}"))
            .args(["--clear-groups", "--"])
            .arg(program);
        Ok(command)
    }

    /// Work in a thread of its own, whose sockets are this host's.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<JoinHandle<Result<T, Failure>>, Failure> {
        let network = fs::File::open(namespace(&self.holder))?;
        Ok(std::thread::spawn(move || {
            setns(&network, CloneFlags::CLONE_NEWNET)?;
            work()
        }))
    }

    /// Runs a program to its end; fails unless it succeeds. Its standard output.
    pub fn run(&self, words: &[&str]) -> Result<String, Failure> {
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| Failure::new("no program"))?;
        let output = run(self.command(tool(program)?)?.args(arguments))?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// curl, as anybody uses it: status, and body.
    pub fn curl(&self, words: &[&str]) -> Result<Got, Failure> {
        let mut command = self.command(tool("curl")?)?;
        let output = command
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "15",
                "--noproxy",
                "*",
            ])
            .args(["--write-out", "\n%{http_code}"])
            .args(words)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        Ok(Got {
            status: status.parse()?,
            body: body.to_owned(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// What curl got.
#[derive(Debug)]
pub struct Got {
    /// 0: no answer.
    pub status: u16,
    pub body: String,
    /// Why, if there was no answer.
    pub said: String,
}

fn namespace(holder: &Running) -> String {
    format!("/proc/{}/ns/net", holder.id())
}
