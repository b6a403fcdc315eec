//! One vocabulary of reasons, one registry of metrics, one way to log.

mod process;
pub mod reason;
mod runtime;

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

pub use reason::{Reason, TlsReason};

/// Content type of what [`Metrics::encode`] writes.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a program. Registering locks; counting never does.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// A registry that holds `mesh_build_info` and what is told of every process.
    pub fn new(program: &'static str, version: &'static str) -> Self {
        let metrics = Self::default();
        let info = Info::new(vec![("program", program), ("version", version)]);
        metrics.lock_with(|registry| registry.register("mesh_build", "what this program is", info));
        metrics.register_collector(Box::new(process::Process::new()));
        metrics
    }

    /// Registers a metric and hands it back. A counter's name is given without `_total`, which the
    /// format adds.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.lock_with(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// Registers what is read only when metrics are asked for.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.lock_with(|registry| registry.register_collector(collector));
    }

    /// Tells how busy the threads of a runtime are, and how long what is ready waits for one. It watches from a task
    /// on that runtime, for as long as that runs.
    pub fn watch_runtime(&self, runtime: &tokio::runtime::Handle) {
        self.register_collector(Box::new(runtime::Runtime::watch(runtime)));
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        self.lock_with(|registry| prometheus_client::encoding::text::encode(&mut text, registry))
            .expect("a String takes any text");
        text
    }

    fn lock_with<T>(&self, action: impl FnOnce(&mut Registry) -> T) -> T {
        // A panic elsewhere leaves a registry that can still be read.
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        action(&mut registry)
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
    /// Text on a terminal, otherwise JSON.
    Auto,
}

/// Takes a filter for [`init_logging`] from an argument, or says what is wrong with it.
pub fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Starts logging to standard error; standard output belongs to data. `filter` is as in
/// `tracing-subscriber`'s `EnvFilter` (`info,mesh_daemon=debug`). A second call changes nothing.
pub fn init_logging(format: LogFormat, filter: &str) {
    let (filter, filter_text) = match tracing_subscriber::EnvFilter::try_new(filter) {
        Ok(good) => (good, filter.to_owned()),
        Err(_) => (
            tracing_subscriber::EnvFilter::new("info"),
            "info".to_owned(),
        ),
    };
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal)
        .with_writer(std::io::stderr);
    let json = match format {
        LogFormat::Text => false,
        LogFormat::Json => true,
        LogFormat::Auto => !terminal,
    };
    // The only error is that a subscriber was installed before.
    if json {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        if builder.try_init().is_ok() {
            let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            remember(filter_text, Box::new(set));
        }
    } else {
        let builder = builder.with_target(false).with_filter_reloading();
        let handle = builder.reload_handle();
        if builder.try_init().is_ok() {
            let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            remember(filter_text, Box::new(set));
        }
    }
}

type SetFilter = Box<dyn Fn(tracing_subscriber::EnvFilter) -> Result<(), String> + Send + Sync>;

/// What changes the filter of a process, and the filter that it has.
static LOGGING: OnceLock<(SetFilter, Mutex<String>)> = OnceLock::new();

fn remember(filter: String, set: SetFilter) {
    // Only the first subscriber is installed, and only it gets here.
    drop(LOGGING.set((set, Mutex::new(filter))));
}

/// What is logged now; `None`: logging was never started.
pub fn current_log_filter() -> Option<String> {
    let (_, filter) = LOGGING.get()?;
    let filter = filter.lock().unwrap_or_else(PoisonError::into_inner);
    Some(filter.clone())
}

/// Changes what is logged until the program ends, or says what is wrong with the filter.
pub fn set_log_filter(text: &str) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    let (set, current) = LOGGING.get().ok_or("logging was never started")?;
    let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
    set(filter)?;
    text.clone_into(&mut current);
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;

    use super::*;

    #[test]
    fn a_filter_that_is_none_is_told() {
        assert!(log_filter("info,mesh_daemon=debug").is_ok());
        for bad in ["nonsense===", "meshd=loud"] {
            assert!(log_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_what_is_registered() {
        let metrics = Metrics::new("meshp", "0.1.0");
        let rejected = metrics.register(
            "mesh_config_rejected",
            "Refused configurations",
            Family::<Vec<(&'static str, &'static str)>, Counter>::default(),
        );
        rejected.get_or_create(&vec![("reason", "bad_proof")]).inc();
        let text = metrics.encode();
        assert!(
            text.contains("mesh_build_info{program=\"meshp\",version=\"0.1.0\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("mesh_config_rejected_total{reason=\"bad_proof\"} 1"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
