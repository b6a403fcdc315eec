//! `outlier`: which endpoints are left out for their answers, or for having none.

use std::time::Duration;

use mesh_bundle::slice;
use mesh_syntax::Value;

use super::Place::{Defaults, External, Policy, Service, Subset};
use super::{Args, Argument, Entry, Keyword, Property, Reader};
use crate::level::{Percent, Show, Shown, fields};
use crate::linked::Source;
use crate::model::{Field, Setting};
use crate::value::{self, Kind, Wrong};

pub(super) static OUTLIER: Keyword = Keyword {
    args: Args::optional(&[Argument::new("none", &value::NONE)]),
    props: &[
        Property::new(
            "consecutive-5xx",
            &value::COUNT_OR_NONE,
            "So many 5xx in a row, failures without a status among them.",
        ),
        Property::new(
            "consecutive-gateway",
            &value::COUNT_OR_NONE,
            "So many 502 to 504 in a row, failures without a status among them.",
        ),
        Property::new(
            "consecutive-local",
            &value::COUNT_OR_NONE,
            "So many failures without a status in a row: no connection, a broken one, or too late.",
        ),
        Property::new(
            "success-rate-deviations",
            &DEVIATIONS,
            "A success rate so many standard deviations below the mean of all, such as 1.9.",
        ),
        Property::new(
            "failure-percentage",
            &value::SOME_PERCENT_OR_NONE,
            "Such a share of failures among the tries since endpoints were compared last.",
        ),
        Property::new(
            "min-hosts",
            &value::COUNT_OR_NONE,
            "Fewer endpoints with enough requests are not compared; 5 if unsaid.",
        ),
        Property::new(
            "min-requests",
            &value::COUNT_OR_NONE,
            "Fewer requests say nothing of an endpoint; 100 if unsaid.",
        ),
        Property::new(
            "every",
            &value::TIME_OR_NONE,
            "How often endpoints are compared, and ejected ones looked at; \"10s\" if unsaid.",
        ),
        Property::new(
            "eject",
            &value::TIME_OR_NONE,
            "How long the first ejection lasts; \"30s\" if unsaid.",
        ),
        Property::new(
            "max-ejected",
            &value::PERCENT_OR_NONE,
            "So many endpoints are left out at most; \"10%\" if unsaid.",
        ),
    ],
    ..Keyword::new(
        "outlier",
        &[Defaults, Policy, Service, External, Subset],
        "Leaves endpoints out for a while that fail too often in a row, or far more often than the others.",
    )
};

static DEVIATIONS: Kind = Kind {
    expected: "a number from 0.1, such as 1.9, or none",
    words: &[],
    check: |value| deviations(value).map(drop),
};

/// Thousandths of a standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deviations(pub u32);

impl Show for Deviations {
    fn show(&self) -> Shown {
        let text = format!("{}.{:03}", self.0 / 1_000, self.0 % 1_000);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        Shown::Text(text.to_owned())
    }
}

fn deviations(value: &Value) -> Result<Setting<Deviations>, Wrong> {
    if value::none(value).is_ok() {
        return Ok(Setting::Removed);
    }
    let number = value::calls(value)?;
    if !(0.1..=100.0).contains(&number) {
        return Err(Wrong::range(
            "this is out of range: it may be from 0.1 to 100",
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number was just seen to be small and positive"
    )]
    let thousandths = (number * 1_000.0).round() as u32;
    Ok(Setting::Value(Deviations(thousandths)))
}

fields! {
    /// `outlier` at one level.
    declared Outlier;
    /// Which endpoints are left out for their answers. Nobody is where no sort of failure is counted.
    effective EffectiveOutlier;
    /// So many 5xx in a row, failures without a status among them; none: not counted.
    consecutive_5xx: u32 => Option<u32> = None, "`outlier consecutive-5xx=`", "outlier_consecutive_5xx";
    /// So many 502 to 504 in a row, failures without a status among them; none: not counted.
    consecutive_gateway: u32 => Option<u32> = None, "`outlier consecutive-gateway=`", "outlier_consecutive_gateway";
    /// So many failures without a status in a row; none: not counted apart.
    consecutive_local: u32 => Option<u32> = None, "`outlier consecutive-local=`", "outlier_consecutive_local";
    /// A success rate so far below the mean; none: not compared.
    success_rate_deviations: Deviations => Option<Deviations> = None, "`outlier success-rate-deviations=`", "outlier_success_rate_deviations";
    /// Such a share of failures; none: not counted.
    failure_percentage: Percent => Option<Percent> = None, "`outlier failure-percentage=`", "outlier_failure_percentage";
    /// Fewer endpoints with enough requests are not compared.
    min_hosts: u32 => u32 = 5, "`outlier min-hosts=`", "outlier_min_hosts";
    /// Fewer requests say nothing of an endpoint.
    min_requests: u32 => u32 = 100, "`outlier min-requests=`", "outlier_min_requests";
    /// How often endpoints are compared, and ejected ones looked at.
    every: Duration => Duration = Duration::from_secs(10), "`outlier every=`", "outlier_every";
    /// How long the first ejection lasts.
    eject: Duration => Duration = Duration::from_secs(30), "`outlier eject=`", "outlier_eject";
    /// So many endpoints are left out at most.
    max_ejected: Percent => Percent = Percent(1000), "`outlier max-ejected=`", "outlier_max_ejected";
}

impl EffectiveOutlier {
    /// Whether any failure is counted.
    pub const fn counts(&self) -> bool {
        self.consecutive_5xx.value.is_some()
            || self.consecutive_gateway.value.is_some()
            || self.consecutive_local.value.is_some()
            || self.compares()
    }

    /// Whether endpoints are compared with each other.
    pub const fn compares(&self) -> bool {
        self.success_rate_deviations.value.is_some() || self.failure_percentage.value.is_some()
    }

    /// Who says that something is counted, one source for each sort of failure.
    pub const fn counted_by(&self) -> [Source; 5] {
        [
            self.consecutive_5xx.source,
            self.consecutive_gateway.source,
            self.consecutive_local.source,
            self.success_rate_deviations.source,
            self.failure_percentage.source,
        ]
    }

    pub(crate) fn lower(&self, message: &mut slice::Pool) {
        message.outlier = self.counts().then_some(slice::Outlier {
            consecutive_5xx: self.consecutive_5xx.value,
            consecutive_gateway: self.consecutive_gateway.value,
            consecutive_local: self.consecutive_local.value,
            rates: self.compares().then_some(slice::OutlierRates {
                success_rate_deviations: self.success_rate_deviations.value.map(|by| by.0),
                failure_percentage: self.failure_percentage.value.map(|share| share.0),
                min_hosts: self.min_hosts.value,
                min_requests: self.min_requests.value,
            }),
            every: self.every.value,
            eject: self.eject.value,
            max_ejected: self.max_ejected.value.0,
        });
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Outlier {
    if let Some(none) = reader.none(entry) {
        return Outlier::removed(none);
    }
    Outlier {
        consecutive_5xx: entry.prop("consecutive-5xx", value::count_or_none),
        consecutive_gateway: entry.prop("consecutive-gateway", value::count_or_none),
        consecutive_local: entry.prop("consecutive-local", value::count_or_none),
        success_rate_deviations: entry.prop("success-rate-deviations", deviations),
        failure_percentage: percent(entry, "failure-percentage"),
        min_hosts: entry.prop("min-hosts", value::count_or_none),
        min_requests: entry.prop("min-requests", value::count_or_none),
        every: entry.prop("every", value::time_or_none),
        eject: entry.prop("eject", value::time_or_none),
        max_ejected: percent(entry, "max-ejected"),
    }
}

/// A property that is a share or `none`.
pub(super) fn percent(entry: Entry<'_>, name: &str) -> Field<Percent> {
    let share = entry.prop(name, value::percent_or_none)?;
    Some(share.map(|share| match share {
        Setting::Removed => Setting::Removed,
        Setting::Value(share) => Setting::Value(Percent(share)),
    }))
}
