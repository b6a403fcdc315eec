//! `locality`: endpoints near the caller are taken first.

use mesh_bundle::slice::{self, LocalityFallback as Fallback};
use mesh_syntax::{Diagnostic, Value};

use super::Place::{Defaults, External, Policy, Service, Subset};
use super::{Args, Entry, Keyword, Merge, Place, Property, Reader, Repeats, outlier};
use crate::code;
use crate::level::{Percent, Show, Shown, fields};
use crate::model::{Setting, Spanned};
use crate::value::{self, Wrong};

pub(super) static LOCALITY: Keyword = Keyword {
    // Fallbacks are values of the first label, and their order counts.
    merge: Some(Merge::Whole),
    args: Args::list("LABEL", &value::LABEL_NAME_OR_NONE, 0),
    props: &[Property::new(
        "min-healthy",
        &value::PERCENT_OR_NONE,
        "Below this share of healthy endpoints the next best join in; \"70%\" if unsaid.",
    )],
    block: Some(Place::Locality),
    ..Keyword::new(
        "locality",
        &[Defaults, Policy, Service, External, Subset],
        "Prefers endpoints that share these labels with the caller, the most important first.",
    )
};

pub(super) static ELSE: Keyword = Keyword {
    args: Args::list("VALUE", &value::LABEL, 1),
    repeats: Repeats::Many,
    props: &[Property::new(
        "from",
        &value::LABEL,
        "Only for callers whose own value this is.",
    )],
    ..Keyword::new(
        "else",
        &[Place::Locality],
        "Values of the first label that are tried next, in order; `else none`: no others.",
    )
};

/// Which endpoints are near, and where to look when too few of them are healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nearness {
    /// Labels that an endpoint best shares with the caller, the most important first.
    pub labels: Vec<String>,
    /// In order, when the caller's own value has too few.
    pub otherwise: Vec<Fallback>,
    /// Never beyond `otherwise`.
    pub confined: bool,
}

impl Show for Nearness {
    fn show(&self) -> Shown {
        Shown::List(self.labels.clone())
    }
}

fields! {
    /// `locality` at one level.
    declared Locality;
    /// Which endpoints are preferred.
    effective EffectiveLocality;
    /// The labels, and where else to look. One field: the fallbacks are values of the first label.
    nearness: Nearness => Option<Nearness> = None, "`locality`", "locality";
    /// Below this share of healthy endpoints the next best join in.
    min_healthy: Percent => Percent = Percent(7000), "`locality min-healthy=`", "locality_min_healthy";
}

impl EffectiveLocality {
    pub(crate) fn lower(&self, message: &mut slice::Pool) {
        message.locality = self
            .nearness
            .value
            .as_ref()
            .map(|nearness| slice::Locality {
                labels: nearness.labels.clone(),
                min_healthy: self.min_healthy.value.0,
                otherwise: nearness.otherwise.clone(),
                confined: nearness.confined,
            });
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Locality {
    if let Some(none) = reader.none(entry) {
        return Locality::removed(none);
    }
    let labels = entry.args(0, value::label_name);
    twice(reader, &labels);
    let (otherwise, confined) = fallbacks(reader, entry);
    let min_healthy = outlier::percent(entry, "min-healthy");
    let Some(first) = labels.first() else {
        if let Some(child) = entry.node.children.first() {
            reader.report(
                Diagnostic::error(
                    code::MISSING,
                    entry.node.name.span,
                    "`locality` needs the label whose values `else` names",
                )
                .label(child.span, "of which label?")
                .help("write it first: `locality zone { … }`"),
            );
        }
        return Locality {
            nearness: None,
            min_healthy,
        };
    };
    let span = labels
        .iter()
        .fold(first.span, |span, label| span.to(label.span));
    let nearness = Nearness {
        labels: labels.into_iter().map(|label| label.value).collect(),
        otherwise,
        confined,
    };
    Locality {
        nearness: Some(Spanned::new(Setting::Value(nearness), span)),
        min_healthy,
    }
}

fn twice(reader: &mut Reader<'_>, labels: &[Spanned<String>]) {
    for (index, label) in labels.iter().enumerate() {
        if let Some(first) = labels[..index]
            .iter()
            .find(|other| other.value == label.value)
        {
            reader.report(
                Diagnostic::error(
                    mesh_syntax::code::DUPLICATE_SETTING,
                    label.span,
                    format!("the label `{}` is given twice", label.value),
                )
                .label(first.span, "the first time"),
            );
        }
    }
}

fn fallbacks(reader: &mut Reader<'_>, entry: Entry<'_>) -> (Vec<Fallback>, bool) {
    let mut otherwise = Vec::new();
    let mut last = None;
    for child in reader.block(entry) {
        if let Some(end) = last {
            reader.report(
                Diagnostic::error(
                    code::EXCLUSIVE,
                    child.node.name.span,
                    "after `else none` nothing is tried",
                )
                .label(end, "nothing else from here on")
                .help("put `else none` last, or remove it"),
            );
            continue;
        }
        if let Some(none) = reader.none(child) {
            last = Some(none);
            continue;
        }
        let values: Vec<String> = child
            .args(0, other_value)
            .into_iter()
            .map(|value| value.value)
            .collect();
        if !values.is_empty() {
            otherwise.push(Fallback {
                values,
                from: child
                    .prop("from", value::label_value)
                    .map(|from| from.value),
            });
        }
    }
    (otherwise, last.is_some())
}

fn other_value(value: &Value) -> Result<String, Wrong> {
    value::label_value(value)
}
