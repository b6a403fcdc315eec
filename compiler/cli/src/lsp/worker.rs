//! The thread that checks policies, so that whoever types is answered meanwhile.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread;
use std::time::{Duration, Instant};

use mesh_compiler::DEFAULT_ENVIRONMENT;
use mesh_compiler::date::Date;
use mesh_lint::Checker;
use mesh_syntax::SourceSet;

use super::session::Event;
use crate::compile::{Compiled, Subject, compile_observed, together};

/// The policies of one root at one moment.
#[derive(Debug)]
pub(super) struct Job {
    /// Which root.
    pub(super) root: PathBuf,
    pub(super) sources: SourceSet,
    pub(super) root_path: String,
    /// The versions of the documents in them, by path.
    pub(super) versions: BTreeMap<String, i32>,
    pub(super) today: Date,
    /// The one environment to check; none: all.
    pub(super) environment: Option<String>,
    /// What is known of the root's earlier states.
    pub(super) checker: Box<Checker>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) root: PathBuf,
    pub(super) sources: SourceSet,
    pub(super) versions: BTreeMap<String, i32>,
    /// None: the check itself failed.
    pub(super) compiled: Option<Compiled>,
    pub(super) checker: Box<Checker>,
    pub(super) took: Duration,
}

/// Starts the thread; it ends when the sender of jobs is dropped.
pub(super) fn start(events: SyncSender<Event>) -> std::io::Result<Sender<Job>> {
    let (jobs, received) = channel();
    thread::Builder::new()
        .name("check".to_owned())
        .spawn(move || work(&received, &events))?;
    Ok(jobs)
}

fn work(jobs: &Receiver<Job>, events: &SyncSender<Event>) {
    for mut job in jobs {
        let begun = Instant::now();
        // An editor must survive a fault of a check. What the checker knew may be half of something, so it is dropped.
        let compiled = catch_unwind(AssertUnwindSafe(|| compile(&mut job)));
        let compiled = compiled.unwrap_or_else(|_panic| {
            *job.checker = Checker::new();
            None
        });
        let retired = job.checker.retired();
        let done = Done {
            root: job.root,
            sources: job.sources,
            versions: job.versions,
            compiled,
            checker: job.checker,
            took: begun.elapsed(),
        };
        if events.send(Event::Checked(Box::new(done))).is_err() {
            return;
        }
        // After the findings: nobody waits for it.
        drop(retired);
    }
}

/// Every environment in one report, as `meshc check` gives it.
fn compile(job: &mut Job) -> Option<Compiled> {
    let mut runs: Vec<(String, Compiled)> = Vec::new();
    let first = job.environment.as_deref().unwrap_or(DEFAULT_ENVIRONMENT);
    let mut names = vec![first.to_owned()];
    while let Some(environment) = names.pop() {
        let subject = Subject {
            sources: &job.sources,
            environment: &environment,
            root_path: &job.root_path,
            today: job.today,
        };
        let mut run = compile_observed(&mut job.checker, None, subject, &mut ());
        if runs.is_empty() {
            if job.environment.is_none() {
                names.clone_from(&run.environments);
                names.reverse();
            }
        } else {
            run.forget_mesh();
        }
        runs.push((environment, run));
    }
    if runs.len() == 1 {
        return runs.pop().map(|(_, run)| run);
    }
    together(&job.sources, &job.root_path, runs)
}
