//! What commands found, as text for people and programs. The types that reach a program are of their own, so that no
//! inner change alters an output.

use mesh_compiler::trial::{Expectation, Outcome};
use mesh_syntax::Witness;

mod effective;
mod expectation;
pub(crate) mod github;
pub(crate) mod graph;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod sarif;
pub(crate) mod shown;

/// A witness as the test that would show it.
fn witness_as_test(witness: &Witness) -> String {
    let mut request = format!("request {} {:?}", witness.method, witness.path);
    let from = witness.from.as_deref().unwrap_or("unauthenticated");
    request = format!("{request} from={from}");
    request = format!("{request} to={}", witness.to);
    if witness.host != witness.to && !witness.host.is_empty() {
        request = format!("{request} host={:?}", witness.host);
    }
    if let Some(port) = witness.port {
        request = format!("{request} port={port}");
    }
    if let Some(ip) = witness.client_ip {
        request = format!("{request} client-ip=\"{ip}\"");
    }
    if let Some(ip) = witness.peer_ip {
        request = format!("{request} peer-ip=\"{ip}\"");
    }
    let headers = witness
        .headers
        .iter()
        .map(|(name, value)| format!("header {name} {value:?}"));
    let query = witness
        .query
        .iter()
        .map(|(name, value)| format!("query {name} {value:?}"));
    let claims = witness
        .claims
        .iter()
        .map(|(name, value)| format!("claim {name} {value:?}"));
    let fields: Vec<String> = headers.chain(query).chain(claims).collect();
    if fields.is_empty() {
        request
    } else {
        format!("{request} {{ {} }}", fields.join("; "))
    }
}

/// Why a test failed; nothing if it passed.
fn because(outcome: &Outcome, failures: &[Expectation]) -> Option<String> {
    let refusal = outcome.refusal.as_ref();
    let each = failures.iter().map(|failure| {
        let Expectation {
            field,
            expected,
            actual,
        } = failure;
        match (*field, refusal) {
            ("decision", Some(refusal)) => {
                format!("expected {expected}, got {actual} ({})", refusal.reason)
            }
            ("decision", None) => format!("expected {expected}, got {actual}"),
            ("split", _) => format!("expected the split {expected}, got {actual}"),
            (field, _) => format!("expected {field} {expected}, got {actual}"),
        }
    });
    let text = each.collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then_some(text)
}

/// `1 error`, `2 errors`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_reads_as_the_line_of_a_test() {
        let witness = Witness {
            method: "GET".to_owned(),
            host: "reviews".to_owned(),
            path: "/reviews/7".to_owned(),
            headers: vec![("user".to_owned(), "tester".to_owned())],
            from: Some("productpage".to_owned()),
            to: "reviews".to_owned(),
            ..Witness::default()
        };
        assert_eq!(
            witness_as_test(&witness),
            r#"request GET "/reviews/7" from=productpage to=reviews { header user "tester" }"#
        );
    }
}
