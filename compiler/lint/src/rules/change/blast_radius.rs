//! `rollout/blast-radius`

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// A change that alters the slices of more workloads than `refuse blast-radius=` permits; without
    /// that setting, of more than half of them, if there are at least ten. Found with
    /// `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// A mistake in it reaches all of them. Changes to `defaults` and shared policies look small and
    /// are not.
    ///
    /// ## Examples
    /// ```kdl base
    /// mesh bookshop { trust-domain "bookshop.example"; refuse blast-radius="40%" }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage }
    /// ```
    /// ```kdl bad
    /// mesh bookshop { trust-domain "bookshop.example"; refuse blast-radius="40%" }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; timeout "2s" }
    /// ```
    /// ```kdl good
    /// mesh bookshop { trust-domain "bookshop.example"; refuse blast-radius="60%" }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; timeout "2s" }
    /// ```
    pub(crate) static BLAST_RADIUS = {
        code: "MSH1107", name: "rollout/blast-radius",
        summary: "one change reaches a large part of the mesh",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Of all slices, where nothing is set …
const SHARE_MOST: f64 = 0.5;
/// … and where there are this many.
const SLICES_FEW: usize = 10;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(slices) = facts.change().and_then(|change| change.slices()) else {
        return;
    };
    let kept = slices.before.saturating_sub(slices.removed.len());
    let limit = facts.mesh().refuse.blast_radius;
    let most = limit.map_or(SHARE_MOST, |limit| f64::from(limit.value) / 10_000.0);
    if kept == 0 || (limit.is_none() && kept < SLICES_FEW) {
        return;
    }
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let share = count(slices.changed.len()) / count(kept);
    if share <= most {
        return;
    }
    let access = match slices.access_changed.len() {
        0 => String::new(),
        many => format!(", {many} of them also in who may enter"),
    };
    let message = format!(
        "{} of {kept} workloads get another slice{access}: {}%, where one change should reach {}% at most",
        slices.changed.len(),
        number(share * 100.0),
        number(most * 100.0),
    );
    let mut finding = BLAST_RADIUS
        .at(facts.mesh().name.span, message)
        .help("deliver it in parts")
        .number("changed", count(slices.changed.len()))
        .number("workloads", count(kept))
        .number("limit", most);
    if let Some(limit) = limit {
        finding = finding.label(limit.span, "the limit");
    }
    cx.report(finding);
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use crate::tester::changes;

    fn with(services: usize, defaults: &str) -> String {
        let mut text =
            format!("mesh m {{ trust-domain \"m.example\"; defaults {{ {defaults} }} }}\n");
        for number in 0..services {
            writeln!(
                text,
                "service s{number} {{ port 80; endpoints {{ static \"10.0.0.{number}:80\" }}; allow any }}"
            )
            .unwrap();
        }
        text
    }

    #[test]
    fn a_change_of_defaults_reaches_everybody() {
        insta::assert_snapshot!(changes(
            "MSH1107",
            &with(12, ""),
            &with(12, "timeout \"3s\"")
        ));
        assert_eq!(
            changes("MSH1107", &with(3, ""), &with(3, "timeout \"3s\"")),
            ""
        );
        assert_eq!(changes("MSH1107", &with(12, ""), &with(12, "")), "");
    }
}
