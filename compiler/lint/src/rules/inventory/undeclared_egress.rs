//! `inventory/undeclared-egress`

use std::collections::BTreeSet;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A call that the inventory has seen, to something that policy declares neither as `service` nor as
    /// `external`. Needs an `inventory.kdl` that lists `observed`.
    ///
    /// ## Why it matters
    /// A proxy answers a request to a name that policy does not know with 403. The call was seen where no
    /// proxy stood in its way yet; once one does, it ends.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test" }
    /// service payments { port 80; endpoints { static "10.0.0.1:80" } }
    /// // file: inventory.kdl
    /// inventory "2026-01-01" { observed payments to=stripe rate="20/s" }
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test" }
    /// service payments { port 80; endpoints { static "10.0.0.1:80" }; calls stripe }
    /// external stripe { host "api.stripe.example"; port 80 protocol=http dial=443 { tls }; allow payments }
    /// // file: inventory.kdl
    /// inventory "2026-01-01" { observed payments to=stripe rate="20/s" }
    /// ```
    pub(crate) static UNDECLARED_EGRESS = {
        code: "MSH0906", name: "inventory/undeclared-egress",
        summary: "a call was seen to what no policy knows",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let Some(inventory) = cx.inventory(&UNDECLARED_EGRESS) else {
        return;
    };
    if inventory.observed.is_empty() {
        cx.skip(
            &UNDECLARED_EGRESS,
            "needs an inventory file with `observed`",
        );
        return;
    }
    let mut told = BTreeSet::new();
    for call in &inventory.observed {
        let Err(to) = &call.to else { continue };
        let from = match &call.from {
            Ok(id) => &mesh.service(*id).name.value,
            Err(name) => name,
        };
        if !told.insert((from, to)) {
            continue;
        }
        let finding = UNDECLARED_EGRESS
            .at(call.span, format!("`{from}` calls `{to}`, which no policy knows"))
            .at("answered 403 by a proxy")
            .help(format!(
                "declare `{to}` as `external`, with an `allow` for who needs it, or find out why it is called"
            ))
            .possible();
        cx.report(match call.rate {
            Some(rate) => finding.number("rate", rate),
            None => finding,
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const MESH: &str = "mesh example { trust-domain \"example.test\" }
service a { port 80; endpoints { static \"10.0.0.1:80\" } }
service b { port 80; endpoints { static \"10.0.0.2:80\" }; allow a }
// file: inventory.kdl
";

    #[test]
    fn what_nobody_knows_is_shown_once() {
        insta::assert_snapshot!(findings(
            "MSH0906",
            &format!(
                "{MESH}inventory \"2026-01-01\" {{
    observed a to=stripe rate=\"2/s\"
    observed a to=stripe
    observed a to=b
}}"
            )
        ));
    }

    #[test]
    fn a_service_is_known() {
        none(
            "MSH0906",
            &format!("{MESH}inventory \"2026-01-01\" {{ observed a to=b }}"),
        );
        none("MSH0906", MESH);
    }
}
