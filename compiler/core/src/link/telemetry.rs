//! What is logged and traced: what a service says of a field takes the place of what the mesh says.

use std::collections::BTreeSet;

use mesh_bundle::slice::{AccessLogFilter, StatusRange};

use super::Linker;
use crate::linked::{AccessLog, Telemetry, Traces};
use crate::model;

/// Of 10,000.
const ALL: u32 = 10_000;

impl Linker<'_, '_> {
    pub(super) fn telemetry(&mut self, service: &model::Service) -> Telemetry {
        let (own, whole) = (&service.telemetry, &self.root.telemetry);
        let log = own.access_log.as_ref().or(whole.access_log.as_ref());
        let traces = own.traces.as_ref().or(whole.traces.as_ref());
        Telemetry {
            access_log: log.map(|log| self.access_log(log)),
            traces: traces.map(|traces| Traces {
                otlp: traces.otlp.clone(),
                share: traces.share.map_or(ALL, |share| share.value),
                span: traces.span,
            }),
        }
    }

    fn access_log(&mut self, log: &model::AccessLog) -> AccessLog {
        let only = log.only.iter().map(|filter| AccessLogFilter {
            statuses: statuses(&filter.statuses),
            slower_than: filter.slower_than.map(|time| time.value),
            conditions: self
                .conditions(&filter.conditions, None)
                .into_iter()
                .map(|condition| condition.value)
                .collect(),
        });
        AccessLog {
            format: log.format.value,
            only: only.collect(),
            span: log.span,
        }
    }
}

fn statuses(ranges: &[StatusRange]) -> Vec<StatusRange> {
    let ranges: BTreeSet<StatusRange> = ranges.iter().copied().collect();
    ranges.into_iter().collect()
}
