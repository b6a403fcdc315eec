//! Codes of the catalogue whose subject the language cannot express. They are answered with the reason,
//! so that nobody waits for a finding that cannot come.

use crate::page::Page;

macro_rules! unexpressed {
    ($($code:literal $name:literal $summary:literal $reason:literal;)*) => {
        /// Ascending by code.
        pub(crate) const UNEXPRESSED: &[Page] = &[$(Page {
            code: $code,
            name: $name,
            summary: $summary,
            body: concat!(" ## Why there is no such finding\n ", $reason, "\n"),
        }),*];
    };
}

unexpressed! {
    "MSH0011" "source/deprecated" "deprecated construct"
        "Nothing of the language has been given up yet: every word that a release had is in force. A word to be given up will say so in its own declaration, with what takes its place.";
    "MSH0110" "linking/several-defaults" "several defaults in one scope"
        "There is one `mesh` and one `defaults` in it: a second one is MSH0103 or MSH0005. Two routes that take everything are MSH0203 or MSH0204.";
    "MSH0113" "linking/not-exported" "used, but neither exported nor imported"
        "All names of a mesh are visible everywhere in it. Who may call is said by `allow` (MSH0114), and whose routes a gateway takes by `delegate` (MSH0106).";
    "MSH0118" "linking/implicit-default" "built-in default where an explicit value is demanded"
        "Policy has no way to demand that a value be written down. `meshc explain` says of every value in force where it comes from, built-in ones included.";
    "MSH0307" "routing/nested-split" "rounding changes the shares of nested splits"
        "Splits do not nest into one: where a gateway's split meets a service's, each is drawn on its own with whole weights, and nothing is rounded.";
    "MSH0313" "routing/two-writers" "weights owned by two writers"
        "A route is defined in one place. No controller writes weights beside git.";
    "MSH0410" "retries/no-backoff" "retries without a pause"
        "Every retry waits at random up to its back-off, which cannot be zero (MSH0514).";
    "MSH0417" "retries/ambiguous-attempts" "attempts or retries"
        "`attempts` counts all calls, the first included, everywhere; there is no count of retries. Importers convert.";
    "MSH0507" "timeouts/idle-inversion" "the server closes idle connections before the client does"
        "Both ends of a connection inside the mesh are proxies under one policy. How long an application or an outside service keeps idle connections cannot be declared.";
    "MSH0513" "timeouts/short-drain" "draining is shorter than the longest request"
        "How long a proxy drains is a start-up setting of its own, not policy.";
    "MSH0606" "resilience/override-over-total" "an override of a rate limit exceeds the whole"
        "A rate limit has no overrides: limits on the same requests all hold.";
    "MSH1005" "telemetry/unowned-patch" "a raw patch without owner, reason or end"
        "There are no raw patches.";
    "MSH1006" "telemetry/idle-patch" "a raw patch whose target is missing"
        "There are no raw patches.";
}

#[cfg(test)]
mod tests {
    use super::UNEXPRESSED;
    use crate::pages;

    #[test]
    fn no_code_is_both_checked_and_not() {
        assert!(UNEXPRESSED.is_sorted_by(|a, b| a.code < b.code));
        let checked = pages();
        for page in UNEXPRESSED {
            assert!(
                checked.iter().all(|checked| checked.code != page.code),
                "{}",
                page.code
            );
        }
    }

    #[test]
    fn the_reason_is_what_explain_prints() {
        let page = crate::page("msh0410").unwrap();
        assert!(page.text().contains("## Why there is no such finding"));
    }
}
