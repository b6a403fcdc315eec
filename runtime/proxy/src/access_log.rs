//! The access log, written by a thread of its own. A sink that is too slow, or stands still, costs lines, which are
//! counted, and never a request.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use mesh_bundle::slice::AccessLogFormat;
use nix::fcntl::OFlag;
use prometheus_client::metrics::counter::Counter;

use crate::data_plane::AccessLogTarget;
use crate::limits;

mod filter;
mod line;
mod text;

pub(crate) use filter::{LogDefaults, Only, Seen, only};
pub(crate) use line::Line;
pub(crate) use text::TextLine;

/// Where records go.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: Option<SyncSender<Vec<u8>>>,
    dropped: Counter,
    defaults: LogDefaults,
    /// Says nothing, and ends with the writer.
    written: Mutex<Option<Receiver<()>>>,
}

impl AccessLog {
    /// Opens the sink, for which at most `lines_max` may wait. Where policy says nothing, `defaults` hold.
    pub(crate) fn open(
        target: &AccessLogTarget,
        defaults: LogDefaults,
        lines_max: usize,
        dropped: Counter,
    ) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = match target {
            AccessLogTarget::Off => {
                return Ok(Self {
                    lines: None,
                    dropped,
                    defaults,
                    written: Mutex::default(),
                });
            }
            AccessLogTarget::Stdout => Box::new(io::stdout()),
            AccessLogTarget::File(path) => Box::new(open(path)?),
        };
        let (lines, received) = sync_channel(lines_max);
        let (writing, written) = sync_channel(0);
        let counted = dropped.clone();
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                write_all(&received, BufWriter::new(sink), &counted);
                drop(writing);
            })?;
        Ok(Self {
            lines: Some(lines),
            dropped,
            defaults,
            written: Mutex::new(Some(written)),
        })
    }

    /// Whether records are wanted at all.
    pub(crate) fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// How a record is written about which policy says nothing; none: not at all.
    pub(crate) fn by_default(&self, seen: Seen<'_>) -> Option<AccessLogFormat> {
        self.defaults.takes(seen).then_some(self.defaults.format)
    }

    /// How what never became a request is written.
    pub(crate) fn format(&self) -> AccessLogFormat {
        self.defaults.format
    }

    /// Hands over one line, its end included.
    pub(crate) fn write(&self, line: Vec<u8>) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.inc();
            }
        }
    }
}

/// A pipe that nobody reads yet must not keep the proxy from starting; held open for reading too, it is there
/// whoever comes and goes.
fn open(path: &Path) -> io::Result<std::fs::File> {
    let is_pipe = path
        .metadata()
        .is_ok_and(|metadata| metadata.file_type().is_fifo());
    let mut options = OpenOptions::new();
    if is_pipe {
        let file = options.read(true).write(true);
        return file.custom_flags(OFlag::O_CLOEXEC.bits()).open(path);
    }
    options.create(true).append(true).open(path)
}

impl Drop for AccessLog {
    /// Waits until what was handed over is written, but not for a sink that stands still.
    fn drop(&mut self) {
        self.lines = None;
        let written = self
            .written
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(written) = written
            && written.recv_timeout(limits::ACCESS_LOG_FLUSH_TIMEOUT)
                == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!("the access log's sink stands still; its last lines are lost");
        }
    }
}

fn write_all(
    lines: &Receiver<Vec<u8>>,
    mut sink: BufWriter<Box<dyn Write + Send>>,
    dropped: &Counter,
) {
    let mut failed = false;
    let mut told = (0, None::<Instant>);
    while let Ok(first) = lines.recv() {
        let written = sink.write_all(&first).and_then(|()| {
            while let Ok(line) = lines.try_recv() {
                sink.write_all(&line)?;
            }
            sink.flush()
        });
        // Once per failure, not once per line.
        if let Err(error) = &written
            && !failed
        {
            tracing::warn!(%error, "the access log cannot be written");
        }
        failed = written.is_err();
        let lost = dropped.get();
        let is_due = told
            .1
            .is_none_or(|last| last.elapsed() >= limits::ACCESS_LOG_COMPLAINT_EVERY);
        if lost > told.0 && is_due {
            tracing::warn!(lost = lost - told.0, "the access log's sink is too slow");
            told = (lost, Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_over_is_written_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        let target = AccessLogTarget::File(file.clone());
        let log =
            AccessLog::open(&target, LogDefaults::default(), 200, Counter::default()).unwrap();
        for _ in 0..100 {
            log.write(b"{}\n".to_vec());
        }
        drop(log);
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(written.lines().count(), 100);
    }

    #[test]
    fn a_sink_that_stands_still_holds_nobody_up() {
        const LINES: usize = 1_000;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let dropped = Counter::default();
        let target = AccessLogTarget::File(pipe);
        let log = AccessLog::open(&target, LogDefaults::default(), LINES, dropped.clone()).unwrap();
        // More than the pipe and the queue hold.
        let lines = LINES + 2_000;
        for _ in 0..lines {
            log.write(vec![b'x'; 1_000]);
        }
        assert!(dropped.get() > 0);
        // It does not wait for ever; how long is a constant.
        drop(log);
    }
}
