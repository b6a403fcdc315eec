//! `outlier`: which endpoints are left out for their answers.

use std::time::Duration;

use mesh_bundle::slice;

use super::Place::{Defaults, External, Policy, Service, Subset};
use super::{Args, Argument, Entry, Keyword, Property, Reader};
use crate::level::{Percent, fields};
use crate::model::{Field, Setting};
use crate::value;

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
            "every",
            &value::TIME_OR_NONE,
            "How often ejected endpoints are looked at; \"10s\" if unsaid.",
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
        "Leaves endpoints out for a while that fail too often in a row.",
    )
};

fields! {
    /// `outlier` at one level.
    declared Outlier;
    /// Which endpoints are left out for their answers. Nothing is where neither sort of failure is counted.
    effective EffectiveOutlier;
    /// So many 5xx in a row, failures without a status among them; none: not counted.
    consecutive_5xx: u32 => Option<u32> = None, "`outlier consecutive-5xx=`", "outlier_consecutive_5xx";
    /// So many 502 to 504 in a row, failures without a status among them; none: not counted.
    consecutive_gateway: u32 => Option<u32> = None, "`outlier consecutive-gateway=`", "outlier_consecutive_gateway";
    /// How often ejected endpoints are looked at.
    every: Duration => Duration = Duration::from_secs(10), "`outlier every=`", "outlier_every";
    /// How long the first ejection lasts.
    eject: Duration => Duration = Duration::from_secs(30), "`outlier eject=`", "outlier_eject";
    /// So many endpoints are left out at most.
    max_ejected: Percent => Percent = Percent(1000), "`outlier max-ejected=`", "outlier_max_ejected";
}

impl EffectiveOutlier {
    /// Whether any failure is counted.
    pub const fn counts(&self) -> bool {
        self.consecutive_5xx.value.is_some() || self.consecutive_gateway.value.is_some()
    }

    pub(crate) fn lower(&self, message: &mut slice::Pool) {
        message.outlier = self.counts().then_some(slice::Outlier {
            consecutive_5xx: self.consecutive_5xx.value,
            consecutive_gateway: self.consecutive_gateway.value,
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
