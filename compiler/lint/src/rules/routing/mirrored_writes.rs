//! `routing/mirrored-writes`

use mesh_syntax::Level;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::written;

declare_rule! {
    /// ## What it flags
    /// A route that copies requests (`mirror`) and takes methods that are not idempotent, or, as a note, that
    /// retries: whatever a try is copied from, the copies are not told apart from first requests.
    ///
    /// ## Why it matters
    /// The copy is carried out: a POST that is copied places a second order, unless whoever gets the copies
    /// works on data of its own.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; route all { mirror service=copy share="10%" } }
    /// service copy { port 80; endpoints { static "10.0.0.2:80" } }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     route read { match { method GET HEAD }; mirror service=copy share="10%" }
    ///     route rest { match { path "/**" } }
    /// }
    /// service copy { port 80; endpoints { static "10.0.0.2:80" } }
    /// ```
    pub(crate) static MIRRORED_WRITES = {
        code: "MSH0309", name: "routing/mirrored-writes",
        summary: "requests that are not idempotent are copied",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    for at in written(cx.facts().mesh()) {
        for mirror in &at.route.actions.mirrors {
            let to = &cx.facts().mesh().service(mirror.target.service).name.value;
            let finding = if !at.only_idempotent() {
                MIRRORED_WRITES
                    .at(mirror.span, format!("a POST is carried out by `{to}` as well ({})", at.words()))
                    .at("copies every method")
                    .help(
                        "copy only methods that can be repeated; where the copies work on data of their own, \
                         suppress this with that as the reason",
                    )
                    .possible()
            } else if at.retries() {
                let mut finding = MIRRORED_WRITES
                    .at(
                        mirror.span,
                        format!(
                            "requests that are tried again may be copied again ({})",
                            at.words()
                        ),
                    )
                    .help("count copies with retries in mind, or do not retry on this route");
                finding.level = Level::Note;
                finding.possible()
            } else {
                continue;
            };
            cx.report(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_second_order_is_placed() {
        insta::assert_snapshot!(findings(
            "MSH0309",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route all { mirror service=copy } }
    service copy { port 80; endpoints { static "10.0.0.2:80" } }"#
        ));
    }

    #[test]
    fn reading_can_be_copied() {
        none(
            "MSH0309",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; route read { match { method GET }; mirror service=copy }; route rest { match { path "/x" } } }
    service copy { port 80; endpoints { static "10.0.0.2:80" } }"#,
        );
    }
}
