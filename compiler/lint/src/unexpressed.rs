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
    "MSH0513" "timeouts/short-drain" "draining is shorter than the longest request"
        "How long a proxy drains is a start-up setting of its own, not policy.";
    "MSH0606" "resilience/override-over-total" "an override of a rate limit exceeds the whole"
        "A rate limit has no overrides: limits on the same requests all hold.";
    "MSH0705" "gateways/unverified-tls" "TLS without verification"
        "Whoever dials with TLS verifies the other side's certificate, against the authorities of `trust=` or those of the system, and its name against `san=`, `sni=` or the host. Nothing turns this off.";
    "MSH0708" "access/mtls-of-unknown-port" "another mode for a port that does not exist"
        "What is said of a port stands in the line that declares the port, so there is none for a port that the service does not have.";
    "MSH0712" "gateways/weak-tls" "weak versions or suites of TLS"
        "`min=` takes 1.2 and 1.3; lower ones are refused as a value, with a fix (MSH0006). Suites are those of the proxy's one TLS library, which has no weak ones, and policy does not choose among them.";
    "MSH0818" "access/old-audit-rule" "a rule that has only logged for long"
        "A rule has no date. When it was written only history knows, which a compiler of one commit, or of two, does not read; `git log -S` does.";
    "MSH0820" "access/unapproved-change" "a protected rule changed without its owner"
        "Who approved a change is known to the forge alone. Who may write which rule is MSH0107; have the forge ask the team that `owns` the file for its review.";
    "MSH0902" "gateways/unknown-port" "a route to a port that the service does not have"
        "`port=` and `port` name a port of a service that is known, and one that it lacks is an unknown name (MSH0101).";
    "MSH0903" "gateways/nothing-selected" "a gateway that selects no workload"
        "A gateway is a workload of its own and selects none.";
    "MSH0907" "gateways/external-hides-service" "an external and a service have one host"
        "Services and externals share their names and hosts: two that claim one host are MSH0111, and a star that takes in another's host is MSH0216.";
    "MSH0908" "gateways/protocols-differ" "one port with two protocols"
        "A name has one definition and a port stands in it once. Listeners of a gateway that share a port and differ in protocol are MSH0901.";
    "MSH1001" "telemetry/no-sink" "telemetry that goes nowhere"
        "`traces` can't be written without its collector (`otlp=` is required), and the access log goes to the proxy's own output.";
    "MSH1002" "telemetry/conflicting-selectors" "two settings of telemetry for one workload"
        "Telemetry selects nothing. The mesh says what holds and a service says what differs, each once.";
    "MSH1003" "telemetry/logged-secret" "a header with a secret is logged"
        "The fields of a log record and of a span are fixed; policy can't add a header to them.";
    "MSH1005" "telemetry/unowned-patch" "a raw patch without owner, reason or end"
        "There are no raw patches.";
    "MSH1006" "telemetry/idle-patch" "a raw patch whose target is missing"
        "There are no raw patches.";
    "MSH1007" "telemetry/extension-without-digest" "an extension without a digest"
        "There are no extensions: a proxy runs no code that policy names.";
    "MSH1008" "telemetry/extension-fails-open" "an extension that lets everything through when it fails"
        "There are no extensions. Of services that a proxy asks, MSH0815 says so.";
    "MSH1009" "telemetry/unbounded-label" "a label of metrics without bound"
        "Labels of metrics are fixed, and their values are names from policy and words of a list; policy can't add one, and what a request brings never becomes one.";
    "MSH1102" "rollout/not-reproducible" "a build that nobody can repeat"
        "A generation is made of one commit's files, on that commit's day, and of nothing else: no clock, no network, no order of files. Tests hold this, so no check at build time can find otherwise.";
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
