//! `access/weaker-transport`

use std::collections::BTreeMap;

use mesh_bundle::slice::{MtlsMode, TlsVersion};
use mesh_compiler::analysis::entrance::Refused;
use mesh_compiler::diff::weakened::{self, Weakened, What};
use mesh_syntax::{Diagnostic, Span};

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A change after which less protects what is on the wire: a service that takes plaintext beside mutual TLS
    /// (`mtls permissive`) or instead of it (`mtls off`), an external or a service without a proxy that is no longer
    /// dialled with `tls`, a listener whose clients come in plaintext, and a `min=` that lets an older TLS do. Where that
    /// lets requests in which were refused, MSH0810 says so with one of them. Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// The same requests get in as before, so no rule and no test notices that whoever is on the way reads them. Permissive
    /// mode admits nobody by itself, as a peer in plaintext has no identity, and is right while services move
    /// into the mesh; the next `allow unauthenticated` opens what it left ajar.
    ///
    /// ## Examples
    /// ```kdl base
    /// external stripe { host "api.stripe.com"; port 80 protocol=http dial=443 { tls }; allow pay }
    /// service pay { port 80; endpoints { static "10.0.0.1:80" }; calls stripe }
    /// ```
    /// ```kdl bad
    /// external stripe { host "api.stripe.com"; port 80 protocol=http; allow pay }
    /// service pay { port 80; endpoints { static "10.0.0.1:80" }; calls stripe }
    /// ```
    /// ```kdl good
    /// external stripe { host "api.stripe.com"; port 80 protocol=http dial=443 { tls min="1.3" }; allow pay }
    /// service pay { port 80; endpoints { static "10.0.0.1:80" }; calls stripe }
    /// ```
    pub(crate) static WEAKER_TRANSPORT = {
        code: "MSH0715", name: "access/weaker-transport",
        summary: "less protects what is on the wire than before",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    // What `mesh` says of every service is one place.
    let mut places: BTreeMap<Span, Vec<Weakened>> = BTreeMap::new();
    for weakened in weakened::of(change.meshes()) {
        let is_said = |refused: Option<Refused>| {
            matches!(refused, Some(Refused::Plaintext | Refused::Identity))
        };
        let mut access = change.access().iter();
        let gains = access.find(|each| each.service == weakened.service);
        let gains = gains.map_or(&[][..], |each| &each.gained);
        let is_mode = matches!(weakened.what, What::Mtls(_));
        if !(is_mode && gains.iter().any(|gain| is_said(gain.before))) {
            places.entry(weakened.span).or_default().push(weakened);
        }
    }
    for weakened in places.values() {
        cx.report_some(finding(facts, weakened));
    }
}

fn finding(facts: &Facts<'_>, all: &[Weakened]) -> Option<Diagnostic> {
    let first = all.first()?;
    let name = |each: &Weakened| &facts.mesh().service(each.service.head).name.value;
    let others = match all.len() - 1 {
        0 => String::new(),
        1 => " and one other service".to_owned(),
        many => format!(" and {many} other services"),
    };
    let whom = format!("`{}`{others}", name(first));
    let takes = if all.len() == 1 { "takes" } else { "take" };
    let (message, label, help) = match first.what {
        What::Mtls(MtlsMode::Permissive) => (
            format!("{whom} {takes} plaintext beside mutual TLS"),
            "the base demands more",
            "once every peer has a proxy, go back to `mtls strict`; what only looks whether a service lives needs a `probe`",
        ),
        What::Mtls(MtlsMode::Off) => (
            format!("{whom} {takes} plaintext only"),
            "the base demands more",
            "go back to `mtls strict`; while peers move into the mesh `mtls permissive` takes both",
        ),
        What::Dialled { port } => (
            format!("{whom} is called in plaintext on port {port}"),
            "the base dials it with `tls`",
            "say `tls` in the block of the port, unless nobody can read what is on the way",
        ),
        What::Listened { port } => (
            format!("clients of {whom} come in plaintext on port {port}"),
            "the base takes only TLS here",
            "say `tls certificate=NAME` in the block of the listener",
        ),
        What::Version { port, min } => (
            format!(
                "TLS {} will do on port {port} of {whom}",
                match min {
                    TlsVersion::V1_2 => "1.2",
                    TlsVersion::V1_3 => "1.3",
                }
            ),
            "the base asks for a later one",
            "keep `min=` where it was, unless the other side can't do it",
        ),
    };
    let mut finding = WEAKER_TRANSPORT
        .at(first.span, message)
        .at(label)
        .help(help);
    for each in all {
        finding = finding.about(name(each));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn service(mesh: &str, own: &str) -> String {
        format!(
            r#"mesh m {{ trust-domain "m.example"; {mesh} }}
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web; {own} }}"#
        )
    }

    #[test]
    fn a_mode_that_demands_less_is_found_once_and_where_it_is_said() {
        let strict = service("", "");
        insta::assert_snapshot!(changes("MSH0715", &strict, &service("mtls permissive", "")));
        insta::assert_snapshot!(changes("MSH0715", &strict, &service("", "mtls off")));
    }

    #[test]
    fn what_demands_as_much_or_more_is_not() {
        let permissive = service("", "mtls permissive");
        assert_eq!(changes("MSH0715", &permissive, &permissive), "");
        assert_eq!(
            changes("MSH0715", &permissive, &service("mtls strict", "")),
            ""
        );
    }

    #[test]
    fn what_somebody_gains_by_is_said_with_a_request() {
        let with = |mode: &str| {
            service(
                "",
                &format!("{mode}; allow unauthenticated {{ method GET }}"),
            )
        };
        let (before, after) = (with("mtls strict"), with("mtls permissive"));
        assert_eq!(changes("MSH0715", &before, &after), "");
        assert_ne!(changes("MSH0810", &before, &after), "");
    }

    #[test]
    fn tls_of_others_that_is_gone_or_older_is_found() {
        let with = |port: &str| {
            format!(
                r#"external e {{ host "e.test"; {port}; allow a }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; calls e }}"#
            )
        };
        let tls = with("port 80 dial=443 { tls min=\"1.3\" }");
        insta::assert_snapshot!(changes("MSH0715", &tls, &with("port 80")));
        insta::assert_snapshot!(changes("MSH0715", &tls, &with("port 80 dial=443 { tls }")));
        assert_eq!(changes("MSH0715", &with("port 80"), &tls), "");
    }

    #[test]
    fn listeners_that_take_plaintext_are_found() {
        let with = |tls: &str| {
            format!(
                r#"gateway g {{ listen 443 {{ host "a.test"; {tls} }}; allow unauthenticated; route all {{ to a }} }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow g }}"#
            )
        };
        insta::assert_snapshot!(changes("MSH0715", &with("tls certificate=c"), &with("")));
    }
}
