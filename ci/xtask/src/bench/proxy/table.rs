//! The measurements for people.

use super::{Measured, Report, Scenario, memory, storm};

/// Everything, as one text.
pub(super) fn table(report: &Report) -> String {
    let mut lines = vec![format!(
        "{} processors, Linux {}; medians of {} runs of {} ms, one worker each on one processor",
        report.processors, report.kernel, report.runs, report.run_ms
    )];
    for scenario in &report.scenarios {
        lines.push(String::new());
        lines.push(format!(
            "{:<39}{:>10}{:>10}{:>12}{:>7}{:>11}{:>11}{:>8}{:>8}   per {}",
            scenario.name,
            "CPU µs",
            "of Envoy",
            "per second",
            "busy",
            "added p50",
            "added p99",
            "MiB",
            "failed",
            scenario.unit
        ));
        lines.extend(scenario.contenders.iter().map(|one| line(one, scenario)));
        if !scenario.missing.is_empty() {
            lines.push(format!(
                "  not there, or unable: {}",
                scenario.missing.join(", ")
            ));
        }
    }
    if !report.memory.is_empty() {
        lines.push(String::new());
        lines.push(format!(
            "{:<39}{:>10}{:>18}",
            memory::NAME,
            "idle",
            "1,000 connections"
        ));
        lines.extend(report.memory.iter().map(|one| {
            format!(
                "  {:<37}{:>10.1}{:>18.1}",
                one.name, one.idle_mib, one.connected_mib
            )
        }));
    }
    if let Some(storm) = &report.storm {
        lines.push(String::new());
        lines.push(storm::NAME.to_owned());
        lines.push(format!(
            "  {} swaps in {:.1} s, {} requests, {} failed; p99 {:.0} µs, without a storm {:.0} µs",
            storm.swaps,
            storm.seconds,
            storm.requests,
            storm.failed,
            storm.p99_us,
            storm.quiet_p99_us
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn line(one: &Measured, scenario: &Scenario) -> String {
    let envoy = scenario
        .contenders
        .iter()
        .find(|other| other.name == "Envoy");
    let ratio = envoy.map_or_else(String::new, |envoy| {
        format!("{:.2}", one.cpu_us / envoy.cpu_us)
    });
    let micros =
        |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.0} µs"));
    format!(
        "  {:<37}{:>10.1}{:>10}{:>12.0}{:>6.0}%{:>11}{:>11}{:>8.1}{:>8}",
        one.name,
        one.cpu_us,
        ratio,
        one.per_second,
        one.busy * 100.0,
        micros(one.added_p50_us),
        micros(one.added_p99_us),
        one.resident_mib,
        one.failed,
    )
}
