//! What Prometheus' own clients tell of every process, under the names that dashboards know. It is read when
//! somebody asks.

use std::fmt;
use std::fs;
use std::time::SystemTime;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// This process.
#[derive(Debug)]
pub(super) struct Process {
    /// Unix seconds.
    started: f64,
}

/// Of `/proc/self/status`, in bytes or as a plain number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Status {
    resident: Option<u64>,
    virtual_memory: Option<u64>,
    threads: Option<u64>,
}

impl Process {
    /// Began now.
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            started: since.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Status {
    fn parse(text: &str) -> Self {
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        let kibibytes = |name| number(name).map(|count| count * 1024);
        Self {
            resident: kibibytes("VmRSS:"),
            virtual_memory: kibibytes("VmSize:"),
            threads: number("Threads:"),
        }
    }
}

/// Processor time of all threads, in user and system mode.
fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: nix::sys::time::TimeVal| {
        let whole = u32::try_from(time.tv_sec()).unwrap_or(u32::MAX);
        let micros = u32::try_from(time.tv_usec()).unwrap_or_default();
        f64::from(whole) + f64::from(micros) / 1e6
    };
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let kind = counter.metric_type();
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "processor time, user and system",
                None,
                kind,
            )?)?;
        }
        let status = Status::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let open = fs::read_dir("/proc/self/fd").map(|open| open.count() as u64);
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).ok();
        let gauges = [
            (
                "process_resident_memory_bytes",
                "memory that is resident",
                status.resident,
            ),
            (
                "process_virtual_memory_bytes",
                "address space",
                status.virtual_memory,
            ),
            ("process_threads", "threads", status.threads),
            (
                "process_open_fds",
                "file descriptors that are open",
                open.ok(),
            ),
            (
                "process_max_fds",
                "file descriptors that may be open",
                descriptors.map(|(soft, _)| soft),
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(
                    name,
                    help,
                    None,
                    gauge.metric_type(),
                )?)?;
            }
        }
        let started = ConstGauge::new(self.started);
        started.encode(encoder.encode_descriptor(
            "process_start_time_seconds",
            "when the process began, Unix time",
            None,
            started.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let text = "Name:\tmeshp\nVmSize:\t  200 kB\nVmRSS:\t   12 kB\nThreads:\t7\n";
        let expected = Status {
            resident: Some(12 * 1024),
            virtual_memory: Some(200 * 1024),
            threads: Some(7),
        };
        assert_eq!(Status::parse(text), expected);
        assert_eq!(Status::parse(""), Status::default());
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
    }
}
