//! One child process of `meshd dev`: started, restarted when it crashes, ended with its owner.
//!
//! The child's standard input is a pipe that only this process holds open: when this process ends,
//! however it ends, the child reads the end of the pipe and ends too.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Before a crashed child is started again; doubles with each crash up to the maximum.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A child that lived this long is not crashing in a loop.
const STEADY: Duration = Duration::from_secs(10);
/// How long a child may take to end by itself once it is asked.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Handed on to every child, so that their owner can wait for the end of all.
#[derive(Clone, Debug)]
pub(super) struct Children {
    _alive: mpsc::Sender<Infallible>,
}

/// Waits for the end of all children.
#[derive(Debug)]
pub(super) struct Ended(mpsc::Receiver<Infallible>);

impl Children {
    /// None yet.
    pub(super) fn new() -> (Self, Ended) {
        let (sender, receiver) = mpsc::channel(1);
        (Self { _alive: sender }, Ended(receiver))
    }
}

impl Ended {
    /// Until no child runs and nobody is left who could start one.
    pub(super) async fn wait(mut self) {
        let None = self.0.recv().await;
    }
}

/// What is wanted of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Running; with another number, started again.
    Running(u32),
    /// Killed, and not started again until it is wanted.
    Killed,
    Ended,
}

/// A program and its arguments, as they are used for each start.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) log: PathBuf,
}

/// A child process that is kept running.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    pid: Arc<AtomicU32>,
    wanted: watch::Sender<Wanted>,
    crashes: watch::Receiver<u32>,
    program: Arc<Mutex<Program>>,
    keeper: JoinHandle<()>,
}

impl Process {
    /// Starts a program and keeps it running.
    pub(super) fn start(
        children: &Children,
        name: impl Into<String>,
        program: Program,
    ) -> std::io::Result<Self> {
        let name = name.into();
        let pid = Arc::new(AtomicU32::new(0));
        let child = spawn(&program, &pid)?;
        let (wanted, watched) = watch::channel(Wanted::Running(0));
        let (crashed, crashes) = watch::channel(0);
        let program = Arc::new(Mutex::new(program));
        let kept = keep(
            name.clone(),
            child,
            Arc::clone(&program),
            Arc::clone(&pid),
            watched,
            crashed,
        );
        let children = children.clone();
        let keeper = tokio::spawn(async move {
            kept.await;
            drop(children);
        });
        Ok(Self {
            name,
            pid,
            wanted,
            crashes,
            program,
            keeper,
        })
    }

    /// Process id of the newest start.
    pub(super) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Waits until it has ended by itself.
    pub(super) async fn crashed(&self) {
        let mut crashes = self.crashes.clone();
        // Its keeper is gone: so is the process.
        drop(crashes.wait_for(|crashes| *crashes > 0).await);
    }

    /// Uses other arguments from the next start on.
    pub(super) fn replace_arguments(&self, arguments: Vec<OsString>) {
        lock(&self.program).arguments = arguments;
    }

    /// Kills it with SIGKILL and keeps it down.
    pub(super) fn kill(&self) {
        self.wanted.send_replace(Wanted::Killed);
    }

    /// Starts it again at once, with the newest arguments.
    pub(super) fn restart(&self) {
        self.wanted.send_modify(|wanted| {
            if let Wanted::Running(start) = wanted {
                *start += 1;
            }
        });
    }

    /// Lets it run again.
    pub(super) fn resume(&self) {
        self.wanted.send_replace(Wanted::Running(0));
    }

    /// Asks it to end, and makes it end when it does not.
    pub(super) async fn end(self) {
        self.wanted.send_replace(Wanted::Ended);
        if let Err(error) = self.keeper.await {
            tracing::warn!(process = self.name, %error, "could not wait for a process");
        }
    }
}

/// A started child. Waiting for it would close its standard input, so that is held apart.
struct Started {
    child: Child,
    stdin: Option<ChildStdin>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic elsewhere leaves plain data in it, which is still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(program: &Program, pid: &AtomicU32) -> std::io::Result<Started> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&program.log)?;
    let mut child = Command::new(&program.path)
        .args(&program.arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        // Ctrl-C in the terminal is for this process, which ends its children in order.
        .process_group(0)
        .spawn()?;
    pid.store(child.id().unwrap_or_default(), Ordering::Relaxed);
    let stdin = child.stdin.take();
    Ok(Started { child, stdin })
}

async fn keep(
    name: String,
    mut started: Started,
    program: Arc<Mutex<Program>>,
    pid: Arc<AtomicU32>,
    mut wanted: watch::Receiver<Wanted>,
    crashed: watch::Sender<u32>,
) {
    let mut pause = RESTART_PAUSE;
    let mut start = 0;
    loop {
        let since = tokio::time::Instant::now();
        let ended = tokio::select! {
            status = started.child.wait() => Some(status),
            _ = wanted.wait_for(|wanted| *wanted != Wanted::Running(start)) => None,
        };
        // Whoever wanted it is gone, and what has just ended may have been told to by the same signal.
        if wanted.has_changed().is_err() {
            return end(started).await;
        }
        if let Some(status) = ended {
            crashed.send_modify(|crashes| *crashes = crashes.saturating_add(1));
            // A signal to the whole group ends it, too, and then nothing is started again.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = wanted.wait_for(|wanted| *wanted == Wanted::Ended) => return,
            }
            tracing::warn!(
                process = name,
                ?status,
                "a process ended; starting it again"
            );
        }
        let now_wanted = *wanted.borrow();
        match now_wanted {
            Wanted::Ended => return end(started).await,
            Wanted::Killed => {
                kill(&name, &mut started.child).await;
                let next = wanted.wait_for(|wanted| *wanted != Wanted::Killed).await;
                match next.map(|wanted| *wanted) {
                    Ok(Wanted::Running(now)) => start = now,
                    Ok(Wanted::Killed) => {}
                    Ok(Wanted::Ended) | Err(_) => return,
                }
            }
            Wanted::Running(now) if now != start => {
                start = now;
                kill(&name, &mut started.child).await;
            }
            Wanted::Running(_) => {
                pause = if since.elapsed() >= STEADY {
                    RESTART_PAUSE
                } else {
                    (pause * 2).min(RESTART_PAUSE_MAX)
                };
            }
        }
        started = loop {
            let again = spawn(&lock(&program), &pid);
            match again {
                Ok(started) => break started,
                Err(error) => {
                    tracing::error!(process = name, %error, "a process could not be started");
                    tokio::time::sleep(RESTART_PAUSE_MAX).await;
                    if *wanted.borrow() == Wanted::Ended || wanted.has_changed().is_err() {
                        return;
                    }
                }
            }
        };
    }
}

async fn kill(name: &str, child: &mut Child) {
    if let Err(error) = child.kill().await {
        tracing::warn!(process = name, %error, "a process could not be killed");
    }
}

/// Closes its standard input, which it takes as the wish that it end.
async fn end(started: Started) {
    let Started { mut child, stdin } = started;
    drop(stdin);
    if tokio::time::timeout(END_LIMIT, child.wait()).await.is_err() {
        kill("stubborn child", &mut child).await;
    }
}

/// The program of this name beside the running one.
pub(super) fn sibling(name: &str) -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::NotFound,
        format!(
            "{name} is not beside {}; `cargo build --release` puts it there",
            own.parent().unwrap_or(Path::new(".")).display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(children: &Children, folder: &Path, script: &str) -> Process {
        let program = Program {
            path: "/bin/sh".into(),
            arguments: ["-c", script].map(OsString::from).into(),
            log: folder.join("log"),
        };
        Process::start(children, "child", program).unwrap()
    }

    #[tokio::test]
    async fn what_nobody_wants_any_more_ends_and_is_not_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let (children, ended) = Children::new();
        let script = "echo started; read line; echo ended";
        let process = start(&children, folder.path(), script);
        drop((process, children));
        ended.wait().await;
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(log, "started\nended\n");
    }

    #[tokio::test]
    async fn what_crashes_is_started_again_until_its_owner_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (children, ended) = Children::new();
        let process = start(&children, folder.path(), "echo started; exit 1");
        let mut crashes = process.crashes.clone();
        crashes.wait_for(|crashes| *crashes > 1).await.unwrap();
        process.end().await;
        drop(children);
        ended.wait().await;
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(log.starts_with("started\nstarted\n"), "{log}");
    }
}
