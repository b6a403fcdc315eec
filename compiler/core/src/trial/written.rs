//! Requests and what becomes of them, written as people write tests. What is written here parses, and passes
//! on the mesh that it was made from.

use std::collections::BTreeSet;

use mesh_syntax::{Witness, format_text};

use super::{Arrival, Branch, Call, Decision, Outcome, TakenRoute, Trial, TrialError, percent};
use crate::value::duration_text;

/// The reasons of refusals that `expect` may name.
const REASONS: [&str; 3] = ["authz_denied", "no_route", "jwt_invalid"];

impl Trial<'_> {
    /// A whole `test` node for a request: what becomes of it is what the test expects. It ends with a line's end.
    pub fn written_test(&mut self, name: &str, witness: &Witness) -> Result<String, TrialError> {
        let outcome = self.run(&Call::from(witness))?;
        Ok(test_text(name, witness, &outcome))
    }
}

/// A whole `test` node that expects of a request what became of it.
fn test_text(name: &str, witness: &Witness, outcome: &Outcome) -> String {
    let head = quoted(name);
    let request = sent_text(witness, outcome);
    let expect = expect_text(witness, outcome);
    laid_out(format!("test {head} {{\n    {request}\n    {expect}\n}}\n"))
}

/// What is written here, as `meshc fmt` lays it out: long lines are broken.
pub fn laid_out(text: String) -> String {
    match format_text(&text) {
        Ok(Some(formatted)) => formatted,
        // Nothing to do, or nothing that a formatter understands; then it is shown as it is.
        Ok(None) | Err(_) => text,
    }
}

/// The `request` line of a test, or its `connect` line.
pub fn sent_text(witness: &Witness, outcome: &Outcome) -> String {
    if !outcome.is_connection {
        return request_text(witness);
    }
    let mut parts = vec!["connect".to_owned()];
    parts.extend(between(witness));
    parts.join(" ")
}

/// Who sends it, to whom, and from where.
fn between(witness: &Witness) -> Vec<String> {
    // An identity that is no service's has no name here; bare, its slashes would begin a comment.
    let from = word(witness.from.as_deref().unwrap_or("unauthenticated"));
    let mut parts = vec![format!("from={from} to={}", witness.to)];
    if witness.host != witness.to && !witness.host.is_empty() {
        parts.push(format!("host={}", quoted(&witness.host)));
    }
    parts.extend(witness.port.map(|port| format!("port={port}")));
    parts.extend(witness.client_ip.map(|ip| format!("client-ip=\"{ip}\"")));
    parts.extend(witness.peer_ip.map(|ip| format!("peer-ip=\"{ip}\"")));
    parts
}

/// The `request` line of a test.
pub fn request_text(witness: &Witness) -> String {
    let (method, path) = (word(&witness.method), quoted(&witness.path));
    let mut parts = vec![format!("request {method} {path}")];
    parts.extend(between(witness));
    let kinds = [
        ("header", &witness.headers),
        ("query", &witness.query),
        ("claim", &witness.claims),
    ];
    let fields = kinds.iter().flat_map(|(kind, pairs)| {
        let line = move |(name, value): &(String, String)| {
            format!("{kind} {} {}", word(name), quoted(value))
        };
        pairs.iter().map(line)
    });
    let fields: Vec<String> = fields.collect();
    if !fields.is_empty() {
        parts.push(format!("{{ {} }}", fields.join("; ")));
    }
    parts.join(" ")
}

/// The `expect` line that says only how a request ends, and by which route: what holds in several environments
/// that differ in the rest.
pub fn coarse_expect_text(outcome: &Outcome) -> String {
    let decision = outcome.decision.as_str().replace('_', "-");
    let route = outcome
        .route
        .as_ref()
        .map(|route| format!(" route={}", route.name));
    let route = route.filter(|_| outcome.decision == Decision::Allowed);
    format!("expect {decision}{}", route.unwrap_or_default())
}

/// The `expect` line of a test that expects what is so.
pub fn expect_text(witness: &Witness, outcome: &Outcome) -> String {
    Expected::of(witness, outcome).text()
}

/// The same, and of what is otherwise after another outcome also what needs no words elsewhere; none where no test could
/// tell the two apart.
pub fn changed_expect_text(
    witness: &Witness,
    outcome: &Outcome,
    other: Option<&Outcome>,
) -> Option<String> {
    let Some(other) = other else {
        return Some(expect_text(witness, outcome));
    };
    let both = |one: &Outcome, other: &Outcome| {
        let mut expected = Expected::of(witness, one);
        expected.add_changed(one, other);
        expected.text()
    };
    let text = both(outcome, other);
    (text != both(other, outcome)).then_some(text)
}

/// What stands in an `expect`, and in its block.
struct Expected {
    parts: Vec<String>,
    children: Vec<String>,
}

impl Expected {
    fn text(mut self) -> String {
        if !self.children.is_empty() {
            self.parts
                .push(format!("{{ {} }}", self.children.join("; ")));
        }
        self.parts.join(" ")
    }

    /// What differs and is mostly not worth a word.
    fn add_changed(&mut self, outcome: &Outcome, other: &Outcome) {
        if outcome.decision != Decision::Allowed {
            return;
        }
        if let Some(answer) = &outcome.answer {
            let body = other.answer.as_ref().map(|answer| &answer.body);
            if body.is_some_and(|body| *body != answer.body) {
                self.parts.push(format!("body={}", quoted(&answer.body)));
            }
            return;
        }
        let times = |outcome: &Outcome| {
            let exchange = outcome.route.as_ref().map(|route| &route.exchange);
            let timeout = exchange.and_then(|exchange| exchange.timeout.value);
            let per_try = exchange.and_then(|exchange| exchange.per_try.value);
            [timeout, per_try.or(timeout)]
        };
        let (own, others) = (times(outcome), times(other));
        let has_times = !outcome.is_connection && outcome.route.is_some();
        for ((name, own), other) in ["timeout", "per-try"].into_iter().zip(own).zip(others) {
            // Without one of its own a try has the whole time.
            let follows = name == "per-try" && self.says("timeout=") && times(outcome)[0] == own;
            if own != other && has_times && !follows {
                let text = own.map_or("none".to_owned(), |time| quoted(&duration_text(time)));
                self.parts.push(format!("{name}={text}"));
            }
        }
        let hosts = |outcome: &'_ Outcome| one(outcome, |arrival| arrival.host.clone());
        if let Some(host) = hosts(outcome)
            && hosts(other).as_ref() != Some(&host)
        {
            self.parts.push(format!("host={}", quoted(&host)));
        }
        let named = |outcome: &Outcome| -> BTreeSet<String> {
            let lines = outcome.arrivals.iter().flat_map(|arrival| &arrival.headers);
            lines.map(|(name, _)| name.clone()).collect()
        };
        for name in named(outcome).union(&named(other)) {
            let lines = |arrival: &Arrival| {
                let lines = arrival.headers.iter().filter(|(own, _)| own == name);
                lines.map(|(_, line)| line.clone()).collect::<Vec<_>>()
            };
            let (own, others) = (one(outcome, lines), one(other, lines));
            if let Some(own) = own.filter(|own| others.as_ref() != Some(own)) {
                let value = match own.as_slice() {
                    [] => "none".to_owned(),
                    lines => quoted(&lines.join(", ")),
                };
                self.children
                    .push(format!("request-header {} {value}", word(name)));
            }
        }
        let edited = |outcome: &Outcome| -> BTreeSet<String> {
            let names = outcome.arrivals.iter().flat_map(Arrival::edited);
            names.map(str::to_owned).collect()
        };
        for name in edited(outcome).union(&edited(other)) {
            let answered = |arrival: &Arrival| arrival.answered(name);
            let (own, others) = (one(outcome, answered), one(other, answered));
            let Some(own) = own.filter(|own| others.as_ref() != Some(own)) else {
                continue;
            };
            // What the service says too, no test knows.
            if !own.is_kept {
                let value = match own.values.as_slice() {
                    [] => "none".to_owned(),
                    values => quoted(&values.join(", ")),
                };
                self.children
                    .push(format!("response-header {} {value}", word(name)));
            }
        }
    }

    fn says(&self, start: &str) -> bool {
        self.parts.iter().any(|part| part.starts_with(start))
    }

    fn of(witness: &Witness, outcome: &Outcome) -> Self {
        let (parts, children) = expected(witness, outcome);
        Self { parts, children }
    }
}

/// What is the same of a request wherever it arrives.
fn one<T: PartialEq>(outcome: &Outcome, read: impl Fn(&Arrival) -> T) -> Option<T> {
    let mut all = outcome.arrivals.iter().map(read);
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

/// The parts of an `expect`, and what stands in its block.
fn expected(witness: &Witness, outcome: &Outcome) -> (Vec<String>, Vec<String>) {
    let mut parts = vec!["expect".to_owned()];
    if outcome.decision != Decision::Allowed {
        parts.push(outcome.decision.as_str().replace('_', "-"));
        if let Some(refusal) = &outcome.refusal {
            parts.extend(refusal.status.map(|status| format!("status={status}")));
            let reason = refusal.reason.as_str();
            if REASONS.contains(&reason) {
                parts.push(format!("reason={reason}"));
            }
        }
        return (parts, Vec::new());
    }
    let route = outcome.route.as_ref();
    let branches = taking(route);
    let same_service = branches.windows(2).all(|two| match two {
        [one, other] => one.service == other.service,
        _ => true,
    });
    let is_split = branches.len() > 1;
    parts.push(if is_split { "split" } else { "allowed" }.to_owned());
    parts.extend(route.map(|route| format!("route={}", route.name)));
    if let [only] = branches.as_slice() {
        parts.extend(only.subset.iter().map(|subset| format!("to={subset}")));
    }
    if let Some(first) = branches.first().filter(|_| same_service)
        && first.service != witness.to
    {
        parts.push(format!("service={}", first.service));
    }
    match (&outcome.answer, route) {
        (Some(answer), _) => {
            parts.push(format!("status={}", answer.status));
            let location = answer.location.iter();
            parts.extend(location.map(|location| format!("location={}", quoted(location))));
        }
        (None, Some(route)) if !outcome.is_connection => {
            parts.push(format!("attempts={}", route.exchange.attempts.value));
        }
        (None, _) => {}
    }
    parts.extend(changed_path(outcome).map(|path| format!("path={}", quoted(path))));
    let mut shares: Vec<String> = Vec::new();
    if is_split {
        shares.extend(branches.iter().map(|branch| {
            let subset = branch.subset.as_ref();
            let subset = subset.map_or_else(String::new, |subset| format!(" {subset}"));
            let service = if same_service {
                String::new()
            } else {
                format!(" service={}", branch.service)
            };
            let share = percent(branch.ten_thousandths());
            format!("to{subset}{service} share=\"{share}\"")
        }));
    }
    (parts, shares)
}

/// The path with which a request arrives, where policy rewrites it to one that is the same everywhere.
fn changed_path(outcome: &Outcome) -> Option<&str> {
    let mut paths = outcome.arrivals.iter().map(|arrival| arrival.path.as_str());
    let first = paths.next()?;
    // Nobody looks into bytes.
    let is_changed = !outcome.is_connection && outcome.normalised_path.as_deref() != Some(first);
    (is_changed && paths.all(|path| path == first)).then_some(first)
}

/// The branches that take something, those to the same place as one.
fn taking(route: Option<&TakenRoute>) -> Vec<Branch> {
    let mut together: Vec<Branch> = Vec::new();
    for branch in route.map_or(&[][..], |route| &route.branches) {
        let same = |known: &&mut Branch| {
            (&known.service, &known.subset, known.total)
                == (&branch.service, &branch.subset, branch.total)
        };
        match together.iter_mut().find(same) {
            Some(known) => known.weight += branch.weight,
            None if branch.weight > 0 => together.push(branch.clone()),
            None => {}
        }
    }
    together
}

/// A word as it stands bare, or in quotes where it could not.
pub(crate) fn word(text: &str) -> String {
    const MEANING_MORE: [&str; 5] = ["true", "false", "null", "inf", "nan"];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let bare = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(plain)
        && !MEANING_MORE.contains(&text);
    if bare { text.to_owned() } else { quoted(text) }
}

/// A KDL string.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            // What no KDL text holds as it is, and what would be seen as something else.
            '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => quoted.extend(letter.escape_unicode()),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
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
            headers: vec![("user".to_owned(), "a \"tester\"".to_owned())],
            query: vec![("7".to_owned(), "x\u{202e}\n".to_owned())],
            from: Some("productpage".to_owned()),
            to: "reviews".to_owned(),
            ..Witness::default()
        };
        assert_eq!(
            request_text(&witness),
            r#"request GET "/reviews/7" from=productpage to=reviews { header user "a \"tester\""; query "7" "x\u{202e}\n" }"#
        );
    }
}
