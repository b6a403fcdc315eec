//! What a run that takes longer than a second is doing, as a line on stderr that is gone when it ends. Only on a
//! terminal: logs and other programs get no such line.

use std::io::{self, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::terminal;

/// Runs shorter than this show nothing.
const PATIENCE: Duration = Duration::from_secs(1);
const REDRAWN_EVERY: Duration = Duration::from_millis(100);
const BAR_WIDTH: usize = 20;

/// The line. It is taken away when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: Option<(Sender<String>, JoinHandle<()>)>,
}

impl Progress {
    /// Of a run with this many parts; nothing is ever shown where stderr is no terminal.
    pub(crate) fn of(parts: usize) -> Self {
        let shown = terminal::redraws_stderr().then(|| {
            let (sender, begun) = mpsc::channel();
            let start = Instant::now();
            let thread = std::thread::spawn(move || {
                let (mut name, mut done) = (String::new(), 0_usize);
                let mut drawn = false;
                loop {
                    match begun.recv_timeout(REDRAWN_EVERY) {
                        Ok(next) => {
                            name = next;
                            done += 1;
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                    if start.elapsed() >= PATIENCE {
                        draw(&line(&name, done.saturating_sub(1), parts, start.elapsed()));
                        drawn = true;
                    }
                }
                if drawn {
                    draw("");
                }
            });
            (sender, thread)
        });
        Self { shown }
    }

    /// The next part begins.
    pub(crate) fn next(&self, name: &str) {
        if let Some((sender, _)) = &self.shown {
            // Without its reader there is no line to keep right.
            drop(sender.send(name.to_owned()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.shown.take() {
            drop(sender);
            drop(thread.join());
        }
    }
}

fn line(name: &str, done: usize, parts: usize, elapsed: Duration) -> String {
    let filled = (done * BAR_WIDTH / parts.max(1)).min(BAR_WIDTH);
    format!(
        "[{}{}] {:.0} s, {name}",
        "#".repeat(filled),
        "-".repeat(BAR_WIDTH - filled),
        elapsed.as_secs_f64()
    )
}

/// Replaces the line. If that fails there is nobody to see it.
fn draw(line: &str) {
    let mut stderr = io::stderr().lock();
    drop(write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_and_never_overflows() {
        let bar = |done| line("link", done, 4, Duration::from_millis(2400));
        assert_eq!(bar(0), "[--------------------] 2 s, link");
        assert_eq!(bar(2), "[##########----------] 2 s, link");
        assert_eq!(bar(9), "[####################] 2 s, link");
    }
}
