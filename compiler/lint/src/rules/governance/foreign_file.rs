//! `linking/foreign-file`

use mesh_compiler::LinkedMesh;
use mesh_compiler::linked::ServiceId;
use mesh_compiler::model::{SuppressedAt, Suppression};
use mesh_syntax::{Diagnostic, Span};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A definition, an override or a suppression in a file of a team that does not own what it is about.
    /// `team NAME { owns "teams/reviews/**"; service reviews }` gives a team files and services; in its
    /// files it may declare, change and suppress for its own services only. Files that no team owns
    /// belong to whoever keeps the mesh, and may speak of everything. A finding about a limit of
    /// `refuse` or about an `invariant` is suppressed only in a file of whoever wrote that, one about a route that is not
    /// delegated (MSH0106) in a file of the gateway's owner, and this one in a file of whoever keeps the mesh. What a
    /// named `policy` does to the services of another team is theirs to suppress, with `at=SERVICE`. A suppression that
    /// is not its file's to give has no effect. What is certain to fail is suppressed nowhere; its page says so.
    ///
    /// ## Why it matters
    /// The review of a file is asked of the people who own it. If any file could change any service, a
    /// change to somebody's service could be approved by somebody else.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example {
    ///     trust-domain "example.test"
    ///     team shop { owns "mesh.kdl"; service cart }
    ///     team money { owns "money/**"; service pay }
    /// }
    /// service cart { port 80; endpoints { static "10.0.0.1:80" } }
    /// service pay { port 80; endpoints { static "10.0.0.2:80" } }
    /// ```
    /// ```kdl good
    /// mesh example {
    ///     trust-domain "example.test"
    ///     team shop { owns "shop/**"; service cart }
    ///     team money { owns "money/**"; service pay }
    /// }
    /// // file: shop/cart.kdl
    /// service cart { port 80; endpoints { static "10.0.0.1:80" } }
    /// // file: money/pay.kdl
    /// service pay { port 80; endpoints { static "10.0.0.2:80" } }
    /// ```
    pub(crate) static FOREIGN_FILE = {
        code: "MSH0107", name: "linking/foreign-file", summary: "policy in the file of a team that doesn't own its subject",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    if mesh.teams.is_empty() {
        return;
    }
    for service in &mesh.services {
        let what = format!(
            "the {} `{}` is declared",
            service.kind.word(),
            service.name.value
        );
        cx.report_some(foreign(mesh, service.name.span, Some(service.id), &what));
    }
    for overriding in &mesh.overridings {
        let subject = mesh.service_named(&overriding.name.value);
        let what = format!(
            "the {} `{}` is changed",
            overriding.kind, overriding.name.value
        );
        // A route in a file of its own is its team's, whosever the gateway is.
        let is_others = overriding.kind == "route"
            && mesh.ownership.owner(overriding.declared.file)
                != mesh.ownership.owner(overriding.span.file);
        if subject.is_some() || overriding.kind == "mesh" || is_others {
            cx.report_some(foreign(mesh, overriding.name.span, subject, &what));
        }
    }
    for suppression in &mesh.suppressions {
        cx.report_some(foreign_suppression(mesh, suppression));
    }
}

/// A finding if a suppression is not its file's team's to give.
pub(crate) fn foreign_suppression(
    mesh: &LinkedMesh,
    suppression: &Suppression,
) -> Option<Diagnostic> {
    let at = suppression.at.as_ref();
    let span = at.map_or(suppression.code.span, |at| at.span);
    let what = format!("{} is suppressed", suppression.code.value);
    match at.map(|at| &at.value) {
        Some(SuppressedAt::Definition(name)) => {
            let subject = mesh.service_named(name)?;
            foreign(mesh, span, Some(subject), &what)
        }
        // What lies in a file is for whoever owns the file.
        Some(SuppressedAt::File {
            file: Some(file), ..
        }) if mesh.ownership.owner(*file) == mesh.ownership.owner(span.file) => None,
        Some(SuppressedAt::File { .. }) | None => foreign(mesh, span, None, &what),
    }
}

/// A finding if a file's team does not own what is spoken of there; no subject: everything.
fn foreign(
    mesh: &LinkedMesh,
    span: Span,
    subject: Option<ServiceId>,
    what: &str,
) -> Option<Diagnostic> {
    let file = mesh.owner(span.file)?.name.value.as_str();
    let mut owners = mesh
        .teams
        .iter()
        .filter(|team| subject.is_some_and(|subject| team.services.contains(&subject)));
    if owners.clone().any(|team| team.name.value == file) {
        return None;
    }
    let finding = FOREIGN_FILE.at(
        span,
        format!("{what} in a file of the team `{file}`, which does not own it"),
    );
    Some(match (owners.next(), subject) {
        (Some(owner), _) => finding
            .label(owner.name.span, "the team that owns it")
            .help(format!("move it to a file of `{}`, or let them take it over", owner.name.value)),
        (None, Some(_)) => finding.help(format!(
            "add `service` with this name to `team {file}` in `mesh`, in a change that whoever keeps the mesh approves"
        )),
        (None, None) => finding.help("what holds for every service is said in a file that no team owns"),
    })
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const MESH: &str = "mesh example {
    trust-domain \"example.test\"
    environment prod
    team shop { owns \"shop/**\" \"environments/*/shop.kdl\"; service cart }
    team money { owns \"money/**\"; service pay }
}
service idle { port 80; endpoints { static \"10.0.0.9:80\" } }
";

    #[test]
    fn each_team_in_its_own_files() {
        none(
            "MSH0107",
            &format!(
                "{MESH}// file: shop/cart.kdl
service cart {{ port 80; endpoints {{ static \"10.0.0.1:80\" }} }}
// file: money/deep/pay.kdl
service pay {{ port 80; endpoints {{ static \"10.0.0.2:80\" }}; retry reset attempts=2 }}
suppress MSH0405 at=pay reason=\"so\" owner=money until=\"2099-01-01\"
"
            ),
        );
    }

    #[test]
    fn a_team_may_not_speak_for_another() {
        insta::assert_snapshot!(findings(
            "MSH0107",
            &format!(
                "{MESH}// file: shop/cart.kdl
service cart {{ port 80; endpoints {{ static \"10.0.0.1:80\" }} }}
service pay {{ port 80; endpoints {{ static \"10.0.0.2:80\" }} }}
service new {{ port 80; endpoints {{ static \"10.0.0.3:80\" }} }}
// file: money/pay.kdl
suppress MSH0405 at=cart reason=\"so\" owner=money until=\"2099-01-01\"
suppress MSH0405 reason=\"so\" owner=money until=\"2099-01-01\"
"
            )
        ));
    }

    /// The findings of two codes, and how many are suppressed.
    fn suppressed(policy: &str, codes: [&str; 2]) -> ([bool; 2], usize) {
        let (found, suppressed) = crate::tester::judged(policy);
        (codes.map(|code| found.contains(code)), suppressed)
    }

    const RETRIED: &str =
        "service pay { port 80; endpoints { static \"10.0.0.2:80\" }; retry reset attempts=2 }";

    const CART: &str = "service cart { port 80; endpoints { static \"10.0.0.1:80\" } }";

    fn suppress(at: &str) -> String {
        format!("suppress MSH0405{at} reason=\"so\" owner=shop until=\"2099-01-01\"")
    }

    #[test]
    fn what_is_not_theirs_to_suppress_stays() {
        for at in [" at=pay", "", " at=\"money/pay.kdl\""] {
            let by_shop = format!(
                "{MESH}// file: money/pay.kdl\n{RETRIED}\n// file: shop/cart.kdl\n{CART}\n{}\n",
                suppress(at)
            );
            let found = suppressed(&by_shop, ["MSH0405", "MSH0107"]);
            assert_eq!(found, ([true, true], 0), "{at}");
        }
        // Who keeps the mesh may let a team do it.
        let allowed = format!(
            "suppress MSH0107 at=\"shop/cart.kdl\" reason=\"so\" owner=money until=\"2099-01-01\"\n{MESH}// file: money/pay.kdl\n{RETRIED}\n// file: shop/cart.kdl\n{CART}\n{}\n",
            suppress(" at=pay")
        );
        let found = suppressed(&allowed, ["MSH0405", "MSH0107"]);
        assert_eq!(found, ([false, false], 2));
    }

    #[test]
    fn what_a_policy_does_to_others_is_theirs_to_suppress() {
        let with = |user: &str, (shop, money): (&str, &str)| {
            let uses = |name: &str| if name == user { "use eager" } else { "" };
            let service = |name: &str, last: u32| {
                let uses = uses(name);
                format!(
                    "service {name} {{ port 80; endpoints {{ static \"10.0.0.{last}:80\" }}; {uses} }}"
                )
            };
            let text = format!(
                "{MESH}// file: shop/cart.kdl\npolicy eager {{ retry reset attempts=2 }}\n{}\n{shop}\n// file: money/pay.kdl\n{}\n{money}\n",
                service("cart", 1),
                service("pay", 2),
            );
            suppressed(&text, ["MSH0405", "MSH0107"])
        };
        let at_file = suppress(" at=\"shop/cart.kdl\"");
        assert_eq!(with("pay", (&at_file, "")), ([true, true], 0));
        assert_eq!(with("pay", ("", &suppress(" at=pay"))), ([false, false], 1));
        assert_eq!(with("cart", (&at_file, "")), ([false, false], 1));
    }

    #[test]
    fn a_team_lets_nothing_of_others_pass_in_its_own_file() {
        let own = |code: &str| {
            format!(
                "suppress {code} at=\"money/pay.kdl\" reason=\"so\" owner=money until=\"2099-01-01\""
            )
        };
        let (found, suppressed) = crate::tester::judged(&format!(
            "{MESH}// file: money/pay.kdl
service pay {{ port 80; endpoints {{ static \"10.0.0.2:80\" }}; allow cart }}
service cart {{ port 80; endpoints {{ static \"10.0.0.1:80\" }} }}
{}",
            own("MSH0107")
        ));
        assert_eq!(suppressed, 0, "{found}");
        assert!(
            found.contains("MSH0107 can't be suppressed in this file"),
            "{found}"
        );
        let (found, suppressed) = crate::tester::judged(&format!(
            "{MESH}gateway public {{ listen 8080; allow unauthenticated; delegate shop {{ path \"/shop/**\" }} }}
// file: shop/cart.kdl
service cart {{ port 80; endpoints {{ static \"10.0.0.1:80\" }} }}
// file: money/pay.kdl
service pay {{ port 80; endpoints {{ static \"10.0.0.2:80\" }}; allow public }}
route pay gateway=public {{ match {{ path \"/pay/**\" }}; to pay }}
{}",
            own("MSH0106")
        ));
        assert_eq!(suppressed, 0, "{found}");
        assert!(
            found.contains("MSH0106 can't be suppressed in this file"),
            "{found}"
        );
    }
}
